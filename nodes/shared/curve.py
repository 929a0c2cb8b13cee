"""Draws curves over a clip or a schedule for people to look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ...svd_core.controls.amount import BucketGuidance, LowPassStart, MotionCurves
from ...svd_core.pictures.sheets import as_image, font
from ...svd_core.sampling.controls import Control
from ...svd_core.sampling.guidance import custom_guidance, guidance_curve

WIDTH, HEAD, FOOT = 640, 70, 64
LEFT, RIGHT, TALL, GAP = 76, 616, 226, 56
POINTS = 121
FONT_SIZE, DOT = 20, 4
INK, GRID, LINE, PAPER = (60, 60, 60), (220, 220, 220), (30, 110, 200), (255, 255, 255)
# Curves over a clip go from frame to frame, those over a schedule from step to step.
FRAMES, STEPS = ("first frame", "last frame"), ("first step", "last step")


@dataclass(frozen=True)
class Chart:
    """One curve of evenly spaced values; `levels` are lines across with their labels, drawn at what they are called."""

    values: Sequence[float]
    levels: dict[float, str]
    title: str = ""
    dots: bool = False


def draw_curve(shape: str, low: float | None, high: float | None, points: tuple[float, ...] = ()) -> Tensor:
    """A guidance curve over the clip as IMAGE [1, H, W, 3] in 0..1; ends of None are labelled as the model's own."""
    # Ends that only the model knows are drawn one apart.
    ends = (low if low is not None else (high or 1.0) - 1, high if high is not None else (low or 0.0) + 1)
    scales = (custom_guidance(points, POINTS) if points else guidance_curve(shape, *ends, POINTS)).tolist()
    given = zip(ends, ("low", "high"), (low, high), strict=True)
    names = {} if points else {value: name for value, name, end in given if end is None}
    levels = {value: names.get(value, f"{value:g}") for value in (min(scales), max(scales))}
    shown = " and ".join(name for value, name in names.items() if value in levels)
    title = f"guidance: {shape}" + (f" ({shown} as the model was released)" if shown else "")
    return draw_charts(title, [Chart(scales, levels)], FRAMES)


def draw_sigmas(sigmas: Tensor) -> Tensor:
    """Noise levels [steps + 1] over the steps, on a logarithmic axis, as IMAGE [1, H, W, 3] in 0..1."""
    values = sigmas.tolist()
    first, least = values[0], min(value for value in values if value > 0)
    # 0 has no logarithm; it is drawn a little below the least level.
    floor = least / 4 if values[-1] == 0 else least
    tens = range(math.ceil(math.log10(floor)), math.floor(math.log10(first)) + 1)
    room = 0.1 * math.log(first / floor)  # between two labels
    levels = {math.log(floor): f"{values[-1]:g}"}
    levels |= {math.log(10.0**power): f"{10.0**power:g}" for power in tens if 10.0**power > floor * math.exp(room)}
    if len(levels) == 1:
        levels[math.log(first)] = f"{first:.4g}"
    curve = [math.log(max(value, floor)) for value in values]
    steps = len(values) - 1
    title = f"noise: {steps} step{'s' * (steps > 1)} from {first:.4g} to {values[-1]:g}"
    return draw_charts(title, [Chart(curve, levels, dots=True)], STEPS)


def draw_motion(controls: Sequence[Control]) -> Tensor:
    """What controls of the amount of motion do over the clip, as IMAGE [1, H, W, 3] in 0..1."""
    charts, words = [], []
    for control in controls:
        if isinstance(control, LowPassStart) and control.active:
            words.append(f"start at sigma {control.sigma:g}")
        if isinstance(control, BucketGuidance) and control.active:
            words.append(f"guidance away from bucket {control.bucket:g}")
        if isinstance(control, MotionCurves):
            named = (("motion bucket", control.bucket), ("frames per second", control.fps))
            charts += [_over_clip(points, title) for title, points in named if points]
    return draw_charts(", ".join(words) or ("" if charts else "nothing is changed"), charts, FRAMES)


def draw_charts(title: str, charts: Sequence[Chart], ends: tuple[str, str]) -> Tensor:
    """Curves below one another as IMAGE [1, H, W, 3] in 0..1; `ends` is written below the last."""
    height = HEAD + len(charts) * TALL + max(len(charts) - 1, 0) * GAP + (FOOT if charts else 0)
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, LEFT, 14, title)
    upper = HEAD
    for chart in charts:
        _draw(pen, chart, upper)
        upper += TALL + GAP
    if charts:
        _write(pen, LEFT, height - FOOT + 12, ends[0])
        _write(pen, RIGHT, height - FOOT + 12, ends[1], right=True)
    return as_image(sheet)


def _over_clip(points: tuple[tuple[float, float], ...], title: str) -> Chart:
    values = custom_guidance(points, POINTS).tolist()
    return Chart(values, {value: f"{value:g}" for value in (min(values), max(values))}, title)


def _draw(pen: ImageDraw.ImageDraw, chart: Chart, upper: int) -> None:
    """One chart with its upper edge at `upper`."""
    shown = [*chart.values, *chart.levels]
    bottom, top, lower = min(shown), max(shown), upper + TALL

    def down(value: float) -> float:
        return lower - TALL * ((value - bottom) / (top - bottom) if top > bottom else 1.0)

    for value, label in chart.levels.items():
        pen.line([(LEFT, down(value)), (RIGHT, down(value))], fill=GRID, width=2)
        _write(pen, LEFT - 8, down(value) - FONT_SIZE / 2, label, right=True)
    pen.line([(LEFT, upper), (LEFT, lower), (RIGHT, lower)], fill=INK, width=2)
    step = (RIGHT - LEFT) / max(len(chart.values) - 1, 1)
    curve = [(LEFT + step * place, down(value)) for place, value in enumerate(chart.values)]
    pen.line(curve, fill=LINE, width=4)
    if chart.dots and step > 2 * DOT:
        for x, y in curve:
            pen.ellipse([x - DOT, y - DOT, x + DOT, y + DOT], fill=LINE)
    _write(pen, LEFT, upper - FONT_SIZE - 8, chart.title)


def _write(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, *, right: bool = False) -> None:
    wide = pen.textlength(text, font=font(FONT_SIZE)) if right else 0
    pen.text((x - wide, y), text, fill=INK, font=font(FONT_SIZE))
