"""The help pages of the nodes: written by hand where they explain, from the code where they list."""
