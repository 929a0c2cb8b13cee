"""Draw a memory plan: one bar per stage with weights and activations, and a line at the usable memory."""

from torch import Tensor

from ..charts import Bar, draw_bars
from ..pictures.sheets import as_image
from .memory_plan import GIB, MemoryPlan, usable

WIDTH, TEXT = 960, 16


def draw_plan(plan: MemoryPlan) -> Tensor:
    """Return the plan as an IMAGE [1, H, W, 3] in 0..1."""
    bars = []
    for stage in plan.stages:
        total = plan.on_device(stage)
        seconds = "" if plan.seconds is None else f", {plan.seconds * stage.flops / plan.flops:.0f} s"
        parts = (total - stage.activations, stage.activations)
        bars.append(Bar(stage.name, parts, f"{total / GIB:.2f} GiB{seconds}"))
    verdict = "fits" if plan.fits else "does not fit: use a smaller size or fewer frames"
    return as_image(
        draw_bars(
            f"{plan.frames} frames of {plan.width}x{plan.height} in {plan.memory / GIB:.0f} GB",
            bars,
            subtitle=f"weights: {plan.placement}, CFG passes: {plan.guidance}, decode: {plan.strategy}",
            legend=("weights", "activations"),
            limit=(usable(plan.memory), "usable"),
            footer=verdict + ("" if plan.seconds is None else f", about {plan.seconds:.0f} s per clip"),
            alert=not plan.fits,
            width=WIDTH,
            text=TEXT,
        )
    )
