"""Stable Video Diffusion in plain PyTorch: a still image in, a short clip out."""

__version__ = "0.1.0"
