"""Draws a guidance curve for people to look at."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..svd_core.sampling.guidance import custom_guidance, guidance_curve

SIZE = (640, 360)
LEFT, RIGHT, UPPER, LOWER = 76, 616, 70, 296
POINTS = 121
FONT_SIZE = 20
INK, GRID, LINE, PAPER = (60, 60, 60), (220, 220, 220), (30, 110, 200), (255, 255, 255)


def draw_curve(shape: str, low: float | None, high: float | None, points: tuple[float, ...] = ()) -> torch.Tensor:
    """The curve over the clip as an IMAGE [1, H, W, 3] in 0..1; ends of None are labelled as the model's own."""
    # Ends that only the model knows are drawn one apart.
    ends = (low if low is not None else (high or 1.0) - 1, high if high is not None else (low or 0.0) + 1)
    scales = custom_guidance(points, POINTS) if points else guidance_curve(shape, *ends, POINTS)
    bottom, top = float(scales.min()), float(scales.max())
    names = (
        {}
        if points
        else {value: name for value, name, end in zip(ends, ("low", "high"), (low, high), strict=True) if end is None}
    )
    picture = Image.new("RGB", SIZE, PAPER)
    pen, font = ImageDraw.Draw(picture), _font()

    def write(x: float, y: float, text: str, *, right: bool = False) -> None:
        pen.text((x - pen.textlength(text, font=font) if right else x, y), text, fill=INK, font=font)

    for value, y in {bottom: LOWER, top: UPPER}.items():
        pen.line([(LEFT, y), (RIGHT, y)], fill=GRID, width=2)
        write(LEFT - 8, y - FONT_SIZE / 2, names.get(value, f"{value:g}"), right=True)
    pen.line([(LEFT, UPPER), (LEFT, LOWER), (RIGHT, LOWER)], fill=INK, width=2)
    heights = [(float(scale) - bottom) / (top - bottom) if top > bottom else 1.0 for scale in scales]
    step = (RIGHT - LEFT) / (POINTS - 1)
    curve = [(LEFT + step * i, LOWER - (LOWER - UPPER) * height) for i, height in enumerate(heights)]
    pen.line(curve, fill=LINE, width=4)
    shown = " and ".join(name for value, name in names.items() if value in (bottom, top))
    write(LEFT, 14, f"guidance: {shape}" + (f" ({shown} as the model was released)" if shown else ""))
    write(LEFT, LOWER + 12, "first frame")
    write(RIGHT, LOWER + 12, "last frame", right=True)
    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255)[None]


def _font():
    try:
        return ImageFont.load_default(FONT_SIZE)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()
