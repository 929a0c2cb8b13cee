"""Optical flow between frames: dense, shared by the whole frame, and over pairs."""
