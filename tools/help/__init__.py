"""The help pages of the nodes: prose written by hand, tables made from the code."""
