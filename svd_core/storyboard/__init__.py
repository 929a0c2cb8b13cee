"""Storyboards: each panel becomes a clip, and cuts and cross-fades join the clips into one film, frame by frame.

The room also draws the contact sheet and the timing table. It uses models only through `animate`.
"""

from .clips import LONGER, ClipStore, MemoryStore
from .film import draw_contact_sheet, film_frames
from .panels import Board, Panel, read_board
from .timing import Shot, Timing, plan_timing

__all__ = [
    "LONGER",
    "Board",
    "ClipStore",
    "MemoryStore",
    "Panel",
    "Shot",
    "Timing",
    "draw_contact_sheet",
    "film_frames",
    "plan_timing",
    "read_board",
]
