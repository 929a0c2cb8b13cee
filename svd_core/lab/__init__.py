"""The motion lab: a grid of quick clips over the settings that decide how much moves, measured and ranked.

The best one can then be made with all steps. The room uses models only through `animate`.
"""

from .grid import Grid
from .scores import SCORES, Aim
from .sheet import SHOWN, draw_sheet
from .sweep import Cell, Sweep, run_sweep

__all__ = ["SCORES", "SHOWN", "Aim", "Cell", "Grid", "Sweep", "draw_sheet", "run_sweep"]
