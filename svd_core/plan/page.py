"""A plan drawn: a bar per stage, weights and activations, with the line that the memory draws."""

from PIL import Image, ImageDraw
from torch import Tensor

from ..pictures.sheets import FAINT, INK, LINE, PAPER, as_image, font
from .memory_plan import GIB, MemoryPlan, usable

WIDTH, ROW, LEFT, RIGHT, TOP = 960, 54, 220, 180, 92
WEIGHTS, ACTIVATIONS, LIMIT = (92, 124, 178), (232, 160, 76), (190, 50, 50)


def draw_plan(plan: MemoryPlan) -> Tensor:
    """The plan as IMAGE [1, H, W, 3] in 0..1."""
    sheet = Image.new("RGB", (WIDTH, TOP + ROW * len(plan.stages) + 70), PAPER)
    pen = ImageDraw.Draw(sheet)
    head = f"{plan.frames} frames of {plan.width}x{plan.height} in {plan.memory / GIB:.0f} GB"
    pen.text((24, 18), head, fill=INK, font=font(24))
    pen.text(
        (24, 52),
        f"weights {plan.placement}, branches of guidance {plan.guidance}, decode: {plan.strategy}",
        fill=FAINT,
        font=font(16),
    )
    limit = usable(plan.memory)
    scale = (WIDTH - LEFT - RIGHT) / max(limit, plan.needs, 1)
    for row, stage in enumerate(plan.stages):
        y = TOP + row * ROW
        total = plan.on_device(stage)
        split = LEFT + int((total - stage.activations) * scale)
        pen.text((24, y + 8), stage.name, fill=INK, font=font(17))
        pen.rectangle((LEFT, y + 4, split, y + ROW - 20), fill=WEIGHTS)
        pen.rectangle((split, y + 4, LEFT + int(total * scale), y + ROW - 20), fill=ACTIVATIONS)
        seconds = "" if plan.seconds is None else f", {plan.seconds * stage.flops / plan.flops:.0f} s"
        note = f"{total / GIB:.2f} GiB{seconds}"
        pen.text((WIDTH - RIGHT + 14, y + 8), note, fill=FAINT, font=font(16))
    bottom = TOP + ROW * len(plan.stages)
    x = LEFT + int(limit * scale)
    pen.line((LEFT, TOP, LEFT, bottom), fill=LINE, width=1)
    pen.line((x, TOP - 6, x, bottom), fill=LIMIT, width=2)
    _legend(pen, bottom + 18, plan)
    return as_image(sheet)


def _legend(pen: ImageDraw.ImageDraw, y: int, plan: MemoryPlan) -> None:
    for x, colour, words in ((24, WEIGHTS, "weights"), (130, ACTIVATIONS, "activations"), (270, LIMIT, "usable")):
        pen.rectangle((x, y, x + 14, y + 14), fill=colour)
        pen.text((x + 20, y - 2), words, fill=INK, font=font(15))
    verdict = "fits" if plan.fits else "does not fit: take a smaller size or fewer frames"
    time_ = "" if plan.seconds is None else f", about {plan.seconds:.0f} s a clip"
    pen.text((390, y - 2), verdict + time_, fill=INK if plan.fits else LIMIT, font=font(15))
