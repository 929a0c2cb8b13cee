"""The motion lab: a grid of quick clips over what decides how much moves, measured; the best can be made whole.

Knows models only as `animate` does.
"""

from .grid import Grid
from .scores import SCORES, Aim
from .sheet import SHOWN, draw_sheet
from .sweep import Cell, Sweep, run_sweep

__all__ = ["SCORES", "SHOWN", "Aim", "Cell", "Grid", "Sweep", "draw_sheet", "run_sweep"]
