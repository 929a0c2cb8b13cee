"""Builds the JSON files of `workflows/` from short descriptions and the inputs that the nodes themselves declare."""
