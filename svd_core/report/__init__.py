"""Measures of a clip without any network but the model's own: motion, flicker, drift, likeness, loops and seams.

Knows clips [T, H, W, 3] in 0..1; of models only that they may encode images.
"""

from .clip_report import ClipReport, Seam
from .measuring import measure
from .page import plot

__all__ = ["ClipReport", "Seam", "measure", "plot"]
