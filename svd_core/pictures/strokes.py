"""Masks painted as strokes in a text, as the editor stores them in a workflow.

"brush 0.05: 0.3,0.4 0.35,0.42; erase 0.03: 0.3,0.4; box: 0.1,0.1 0.4,0.5". x and y are shares of the picture's sides,
the radius is a share of its width. "brush 0.05 60%:" paints grey. A "|" starts the mask of the next object.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .reading import check_image

MOST_CHARACTERS = 65536
KINDS = ("brush", "erase", "box")


@dataclass(frozen=True)
class Stroke:
    """One movement of the pen: a line of round dots of `radius`, or a box between two corners.

    kind: one of KINDS. level: of the paint, 0..1. points: (x, y) in -1..2 picture sides.
    """

    kind: str
    radius: float
    level: float
    points: tuple[tuple[float, float], ...]


def parse_strokes(text: str) -> list[list[Stroke]]:
    """Return the strokes of every object in `text`; [] for an empty text. Raises ValueError for other texts."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"a painted mask has at most {MOST_CHARACTERS} characters (got {len(text)}); paint less finely"
        )
    if not text.strip():
        return []
    return [
        [_stroke(stroke) for stroke in part.replace("\n", ";").split(";") if stroke.strip()] for part in text.split("|")
    ]


def _stroke(text: str) -> Stroke:
    """Return one stroke such as "brush 0.05 60%: 0.3,0.4 0.35,0.42"."""
    wrong = ValueError(
        f"{text.strip()[:60]!r} in the painted mask is not a stroke; write brush 0.05: 0.3,0.4 0.35,0.42, or clear it"
    )
    head, colon, places = text.partition(":")
    kind, *rest = head.lower().split() or [""]
    levels, radii = ([word for word in rest if word.endswith("%") == wanted] for wanted in (True, False))
    if kind not in KINDS or not colon or len(levels) > 1 or len(radii) != (kind != "box"):
        raise wrong
    try:
        points = tuple(tuple(float(number) for number in place.split(",")) for place in places.split())
        level = float(levels[0].removesuffix("%")) / 100 if levels else 1.0
        radius = float(radii[0]) if radii else 0.0
    except ValueError:
        raise wrong from None
    numbers = [number for point in points for number in point]
    if not all(-1 <= number <= 2 for number in numbers) or not 0 <= level <= 1 or any(len(p) != 2 for p in points):
        raise wrong
    if (len(points) != 2) if kind == "box" else (not points or not 0 < radius <= 1):
        raise wrong
    return Stroke(kind, radius, level, points)


def paint(strokes: list[Stroke], height: int, width: int) -> Tensor:
    """Return a mask [H, W] in 0..1 of strokes painted in turn, with edges one pixel soft."""
    mask = torch.zeros(height, width)
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    for stroke in strokes:
        cover = _box(stroke, x, y) if stroke.kind == "box" else _line(stroke, x, y)
        mask = torch.lerp(mask, torch.full_like(mask, 0.0 if stroke.kind == "erase" else stroke.level), cover)
    return mask


def paint_objects(text: str, image: Tensor) -> Tensor | None:
    """Return masks [N, H, W] of the painted objects at the size of IMAGE [B, H, W, C], or None if none is painted."""
    check_image(image)
    height, width = image.shape[1:3]
    masks = [paint(strokes, height, width) for strokes in parse_strokes(text) if strokes]
    masks = [mask for mask in masks if bool(mask.any())]
    return torch.stack(masks) if masks else None


def _box(stroke: Stroke, x: Tensor, y: Tensor) -> Tensor:
    """Return how much of each pixel [H, W] a box covers."""
    inside = []
    for axis, centres in ((1, y), (0, x)):
        low, high = sorted(point[axis] * len(centres) for point in stroke.points)
        inside.append((centres - low + 0.5).clamp(0, 1) * (high - centres + 0.5).clamp(0, 1))
    return inside[0][:, None] * inside[1][None, :]


def _line(stroke: Stroke, x: Tensor, y: Tensor) -> Tensor:
    """Return how much of each pixel [H, W] a line of round dots covers."""
    width, height, radius = len(x), len(y), stroke.radius * len(x)
    places = [(px * width, py * height) for px, py in stroke.points]
    cover = torch.zeros(height, width)
    for (ax, ay), (bx, by) in zip(places, places[1:] or places, strict=False):
        reach = radius + 1
        left, right = _range(min(ax, bx) - reach, max(ax, bx) + reach, width)
        top, bottom = _range(min(ay, by) - reach, max(ay, by) + reach, height)
        if left == right or top == bottom:
            continue
        across, down = x[None, left:right] - ax, y[top:bottom, None] - ay
        dx, dy = bx - ax, by - ay
        share = ((across * dx + down * dy) / max(dx * dx + dy * dy, 1e-12)).clamp(0, 1)
        far = ((across - share * dx).square() + (down - share * dy).square()).sqrt()
        part = cover[top:bottom, left:right]
        torch.maximum(part, (radius - far + 0.5).clamp(0, 1), out=part)
    return cover


def _range(low: float, high: float, side: int) -> tuple[int, int]:
    """Return the whole pixels of a side that lie between two places."""
    return min(side, max(0, math.floor(low))), min(side, max(0, math.ceil(high)))
