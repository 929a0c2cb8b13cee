"""Measurements of the controls with the embedded model."""
