"""Clips as files: written frame by frame to mp4, webm, webp, gif or a folder of PNG, and read back with their settings.

Knows nothing of models. Frames are [T, H, W, 3] float in 0..1, the layout of the host's IMAGE.
"""

from .reading import read_clip, read_settings
from .target import check_output
from .writing import write_clip

__all__ = ["check_output", "read_clip", "read_settings", "write_clip"]
