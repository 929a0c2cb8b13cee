"""Draws a report as one page of curves, with Pillow alone: the host ships no plotting library."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .clip_report import ClipReport

WIDTH, COLUMNS = 1280, 3
MARGIN, GAP = 28, 26
PANEL_HEIGHT, HEAD, AXIS, FOOT = 216, 46, 58, 24
TEXT_SIZE, TITLE_SIZE, LINE_HEIGHT = 15, 24, 21
PAPER, PANEL, INK, FAINT, GRID = (255, 255, 255), (250, 250, 251), (40, 42, 48), (110, 112, 120), (224, 225, 230)
SEAM = (190, 160, 60)
COLOURS = ((28, 104, 190), (214, 96, 30), (40, 140, 80), (150, 70, 160))
DOT = 2.5
FEW_POINTS = 40  # beyond, dots would hide the line
MOST_SPACES = 4  # between the lines of an axis, before they are rounded


@dataclass(frozen=True)
class Panel:
    """One chart: a title with its unit, named curves, and the least span of its axis, so that rounding looks flat.

    centre: a value that the axis always shows. start: frame of the first point.
    """

    title: str
    curves: dict[str, Sequence[float]]
    span: float
    centre: float = 0.0
    start: int = 1


def plot(report: ClipReport) -> Tensor:
    """The report as a page [1, H, W, 3] in 0..1: its text, and its numbers over the frames."""
    panels = _panels(report)
    lines = report.lines()
    rows = -(-len(panels) // COLUMNS)
    half = -(-len(lines) // 2)
    top = MARGIN + TITLE_SIZE + 18 + half * LINE_HEIGHT + GAP
    size = (WIDTH, top + rows * (PANEL_HEIGHT + GAP) - GAP + MARGIN)
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN - 6), "Clip report", fill=INK, font=_font(TITLE_SIZE))
    _write_lines(pen, lines, half)
    wide = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS
    for place, panel in enumerate(panels):
        left = MARGIN + place % COLUMNS * (wide + GAP)
        upper = top + place // COLUMNS * (PANEL_HEIGHT + GAP)
        _draw(pen, panel, (left, upper, left + wide, upper + PANEL_HEIGHT), report)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]  # [1, H, W, 3]


def _panels(report: ClipReport) -> list[Panel]:
    amount = {"mean": report.motion, "fastest 5 %": report.fast_motion}
    if report.motion_inside is not None and report.motion_outside is not None:
        amount |= {"inside mask": report.motion_inside, "outside": report.motion_outside}
    percent = {
        "contrast": [100 * factor for factor in report.contrast],
        "sharpness": [100 * factor for factor in report.sharpness],
    }
    panels = [
        Panel("Picture moves, px a frame", {"right": report.pan_x, "down": report.pan_y}, span=0.5),
        Panel("Zoom, factor a frame", {"zoom": report.zoom}, span=0.01, centre=1.0),
        Panel("Roll, degrees a frame", {"clockwise": report.roll}, span=0.5),
        Panel("Motion amount, px a frame", amount, span=0.5),
        Panel("Follows the shared motion, %", {"share": [100 * share for share in report.rigid]}, span=100),
        Panel("Step to the next frame, %", {"step": report.step, "last to first": _level(report)}, span=1),
        Panel("Flicker beyond motion, %", {"flicker": report.flicker}, span=1),
        Panel("Colour drift from frame 0, %", {"colour": report.colour}, span=1, start=0),
        Panel("Contrast and sharpness, % of frame 0", percent, span=10, centre=100, start=0),
    ]
    if report.similarity is not None:
        panels.append(
            Panel("Similarity to the start image", {"cosine": report.similarity}, span=0.05, centre=1.0, start=0)
        )
    return panels


def _level(report: ClipReport) -> list[float]:
    return [report.loop_step] * len(report.step)


def _write_lines(pen: ImageDraw.ImageDraw, lines: list[tuple[str, str]], half: int) -> None:
    """The text of the report in two columns, names before values."""
    font, middle = _font(TEXT_SIZE), (WIDTH - 2 * MARGIN) // 2
    for index, (name, value) in enumerate(lines):
        x, y = MARGIN + index // half * middle, MARGIN + TITLE_SIZE + 18 + index % half * LINE_HEIGHT
        pen.text((x, y), name, fill=FAINT, font=font)
        pen.text((x + 122, y), value, fill=INK, font=font)


def _draw(pen: ImageDraw.ImageDraw, panel: Panel, box: tuple[int, int, int, int], report: ClipReport) -> None:
    """One chart in a box (left, top, right, bottom)."""
    left, upper, right, lower = box
    font = _font(TEXT_SIZE)
    pen.rectangle(box, fill=PANEL, outline=GRID)
    pen.text((left + 10, upper + 5), panel.title, fill=INK, font=font)
    _legend(pen, panel, left + 10, upper + 25)
    inner = (left + AXIS, upper + HEAD + 8, right - 14, lower - FOOT)
    values = [value for curve in panel.curves.values() for value in curve]
    if not values:
        pen.text((left + AXIS, (upper + lower) // 2), "needs two frames", fill=FAINT, font=font)
        return
    marks = _marks(values, panel)
    low, high, last = marks[0], marks[-1], max(report.frames - 1, 1)

    def at(frame: float, value: float) -> tuple[float, float]:
        across, down = frame / last, (high - value) / (high - low)
        return inner[0] + across * (inner[2] - inner[0]), inner[1] + down * (inner[3] - inner[1])

    _axes(pen, inner, marks, last if report.frames > 1 else 0, at)
    for seam in report.seams:
        x = at(seam.frame, low)[0]
        pen.line([(x, inner[1]), (x, inner[3])], fill=SEAM)
    for colour, curve in zip(COLOURS, panel.curves.values(), strict=False):
        points = [at(panel.start + index, value) for index, value in enumerate(curve)]
        if len(points) > 1:
            pen.line(points, fill=colour, width=2, joint="curve")
        if len(points) <= FEW_POINTS:
            for x, y in points:
                pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)


def _legend(pen: ImageDraw.ImageDraw, panel: Panel, x: float, y: float) -> None:
    font = _font(TEXT_SIZE - 2)
    for colour, name in zip(COLOURS, panel.curves, strict=False):
        pen.rectangle((x, y + 6, x + 10, y + 10), fill=colour)
        pen.text((x + 15, y), name, fill=FAINT, font=font)
        x += 15 + pen.textlength(name, font=font) + 14


def _axes(
    pen: ImageDraw.ImageDraw,
    inner: tuple[int, int, int, int],
    marks: list[float],
    last: int,
    at: Callable[[float, float], tuple[float, float]],
) -> None:
    """Lines with their values, and the first, middle and last frame."""
    font = _font(TEXT_SIZE - 3)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    for value in marks:
        y = at(0, value)[1]
        pen.line([(inner[0], y), (inner[2], y)], fill=GRID)
        label = f"{value:.{digits}f}"
        pen.text((inner[0] - 6 - pen.textlength(label, font=font), y - 8), label, fill=FAINT, font=font)
    for frame in sorted({0, last // 2, last}):
        x, label = at(frame, marks[0])[0], f"{frame}" if frame else "frame 0"
        x = min(max(x - pen.textlength(label, font=font) / 2, inner[0]), inner[2] - pen.textlength(label, font=font))
        pen.text((x, inner[3] + 4), label, fill=FAINT, font=font)


def _marks(values: list[float], panel: Panel) -> list[float]:
    """Round numbers at one distance around all values and the panel's centre, over no less than its span."""
    low, high = min([*values, panel.centre]), max([*values, panel.centre])
    missing = max(0.0, panel.span - (high - low))
    # The span grows to the side where the values are.
    below = 0.0 if min(values) >= panel.centre else missing if max(values) <= panel.centre else missing / 2
    low, high = low - below, high + missing - below
    rough = (high - low) / MOST_SPACES
    unit = 10.0 ** math.floor(math.log10(rough))
    space = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / space + 1e-6), math.ceil(high / space - 1e-6)
    return [space * number for number in range(first, max(last, first + 1) + 1)]


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
