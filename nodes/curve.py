"""Draws a guidance curve for people to look at."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..svd_core.sampling.guidance import custom_guidance, guidance_curve

SIZE = (512, 288)
MARGIN = 44
POINTS = 101
INK, GRID, LINE, PAPER = (60, 60, 60), (220, 220, 220), (30, 110, 200), (255, 255, 255)


def draw_curve(shape: str, low: float | None, high: float | None, points: tuple[float, ...] = ()) -> torch.Tensor:
    """The curve over the clip as an IMAGE [1, H, W, 3] in 0..1; ends of None are labelled as the model's own."""
    bottom, top = (0.0 if low is None else low), (1.0 if high is None else high)
    if points:
        scales = custom_guidance(points, POINTS)
        bottom, top = float(scales.min()), float(scales.max())
    else:
        top = max(top, bottom) if high is not None else bottom + 1
        scales = guidance_curve(shape, bottom, top if high is None else high, POINTS)
        bottom, top = float(scales.min()), float(scales.max())
    labels = [f"{bottom:g}" if points or low is not None else "model's low"]
    labels.append(f"{top:g}" if points or high is not None else "model's high")
    if shape == "constant" and not points:
        labels[0] = labels[1]
    picture = Image.new("RGB", SIZE, PAPER)
    pen = ImageDraw.Draw(picture)
    left, right, upper, lower = MARGIN, SIZE[0] - MARGIN // 2, MARGIN, SIZE[1] - MARGIN
    for y, label in ((lower, labels[0]), (upper, labels[1])):
        pen.line([(left, y), (right, y)], fill=GRID)
        pen.text((left, y - 14), label, fill=INK)
    pen.line([(left, upper), (left, lower), (right, lower)], fill=INK)
    pen.text((left, lower + 8), "first frame", fill=INK)
    pen.text((right - 60, lower + 8), "last frame", fill=INK)
    pen.text((left, 10), f"guidance: {shape}", fill=INK)
    span = max(top - bottom, 1e-6)
    xy = [
        (left + (right - left) * i / (POINTS - 1), lower - (lower - upper) * (float(scale) - bottom) / span)
        for i, scale in enumerate(scales)
    ]
    pen.line(xy, fill=LINE, width=3)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
