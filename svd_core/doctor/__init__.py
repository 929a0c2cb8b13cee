"""Check a machine with a model file: what is right, what gains, and a profile of it. `examine` runs all checks."""
