"""The command line: one file per command, the options they share, and where their files go."""
