"""A picture of the loss over the steps, drawn while a run lasts."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..video.target import replacing, write_error
from .log import LogRow

PLOT_FILE = "loss.png"
SIZE = (960, 480)
LEFT, TOP, RIGHT, BOTTOM = 64, 28, 16, 40  # margins
INK, GRID, RAW, SMOOTH = (40, 40, 40), (225, 225, 225), (180, 200, 230), (30, 90, 190)
SMOOTHING = 0.9  # share of the past in the smooth line


def draw_loss(rows: Sequence[LogRow], steps: int) -> Image.Image:
    """Draw the loss of every row (pale) and a smoothed line over steps 0..`steps`; the vertical axis is logarithmic."""
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM
    losses = [max(row.loss, 1e-6) for row in rows if math.isfinite(row.loss)] or [1.0]
    low, high = math.log10(min(losses)) - 0.02, math.log10(max(losses)) + 0.02

    def place(step: float, loss: float) -> tuple[float, float]:
        upward = (math.log10(max(loss, 1e-6)) - low) / (high - low)
        return LEFT + width * step / max(1, steps), TOP + height * (1 - min(1.0, max(0.0, upward)))

    for mark in range(6):
        loss = 10 ** (low + (high - low) * mark / 5)
        y, x = place(0, loss)[1], place(steps * mark / 5, 1.0)[0]
        draw.line([(LEFT, y), (LEFT + width, y)], fill=GRID)
        draw.text((8, y - 6), f"{loss:.3g}", fill=INK)
        label = f"{round(steps * mark / 5)}"
        length = draw.textlength(label)
        draw.text((min(x - length / 2, SIZE[0] - 2 - length), TOP + height + 8), label, fill=INK)
    draw.rectangle([LEFT, TOP, LEFT + width, TOP + height], outline=INK)
    smooth, past = [], None
    for row in rows:
        past = row.loss if past is None else SMOOTHING * past + (1 - SMOOTHING) * row.loss
        smooth.append(place(row.step, past))
    for line, colour, thick in (([place(row.step, row.loss) for row in rows], RAW, 1), (smooth, SMOOTH, 2)):
        if len(line) > 1:
            draw.line(line, fill=colour, width=thick)
    last = f"   step {rows[-1].step} of {steps}: {past:.4g} smoothed, rate {rows[-1].rate:.2g}" if rows else ""
    draw.text((LEFT, 8), f"loss{last}", fill=INK)
    return picture


def write_plot(folder: Path, rows: Sequence[LogRow], steps: int) -> None:
    """Replace the plot in a run's folder."""
    path = folder / PLOT_FILE
    try:
        with replacing(path) as temporary:
            draw_loss(rows, steps).save(temporary, format="PNG")
    except OSError as error:
        raise write_error(path, error) from error
