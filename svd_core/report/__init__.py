"""Measures of a clip [T, H, W, 3] in 0..1: motion, flicker, drift, similarity to the start image, loops and seams.

No networks are needed; similarity uses the image encoder of a model, if one is given.
"""

from .clip_report import CameraTrack, ClipReport, Seam
from .measuring import measure
from .page import plot

__all__ = ["CameraTrack", "ClipReport", "Seam", "measure", "plot"]
