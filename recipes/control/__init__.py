"""Measures what the controls do with the embedded model."""
