"""Plan a clip before it runs: memory and operations of every stage, memory plans, and models placed by a plan."""

from .costs import Stage, stages_of
from .memory_plan import PRESETS, MemoryPlan, make_plan

__all__ = ["PRESETS", "MemoryPlan", "Stage", "make_plan", "stages_of"]
