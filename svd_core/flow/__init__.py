"""Optical flow between frames: a similarity shared by the whole frame, dense flow, and measures of frame pairs."""
