"""What a clip will cost, and how it fits: bytes and operations of every stage, plans, placement of weights, retries."""

from .costs import Stage, stages_of
from .memory_plan import PRESETS, MemoryPlan, make_plan

__all__ = ["PRESETS", "MemoryPlan", "Stage", "make_plan", "stages_of"]
