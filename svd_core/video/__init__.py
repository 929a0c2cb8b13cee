"""Clips as files: written frame by frame as mp4, webm, webp, gif or PNG frames, and read back with their settings.

Frames are [T, H, W, 3] floats in 0..1, the layout of ComfyUI's IMAGE. Other people's videos, animations and picture
sequences are read too.
"""

from .frames import Clip
from .reading import open_clip, read_clip, read_settings
from .target import check_output
from .writing import write_clip

__all__ = ["Clip", "check_output", "open_clip", "read_clip", "read_settings", "write_clip"]
