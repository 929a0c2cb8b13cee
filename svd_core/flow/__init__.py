"""Optical flow between frames: a shared similarity, dense flow, measures of frame pairs, and frames in between."""
