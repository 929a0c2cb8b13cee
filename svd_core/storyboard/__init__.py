"""Storyboards: panels become clips, clips one film by cuts and cross-fades, frame by frame; with a sheet and a table.

Knows models only as `animate` does.
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
