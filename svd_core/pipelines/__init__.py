"""Picture to clip: everything in one call."""
