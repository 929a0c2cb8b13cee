"""Charts of curves over a clip or a schedule."""

from collections.abc import Sequence

from torch import Tensor

from ...svd_core.charts import Chart, Curve, draw_charts
from ...svd_core.controls.amount import BucketGuidance, LowPassStart, MotionCurves, SoftenedCondition
from ...svd_core.pictures.sheets import as_image
from ...svd_core.sampling.controls import Control
from ...svd_core.sampling.guidance import custom_guidance, guidance_curve

WIDTH, HEIGHT, TEXT = 640, 300, 19
POINTS = 121
# Curves over a clip go from frame to frame, those over a schedule from step to step.
OVER_FRAMES = {0: "first frame", POINTS - 1: "last frame"}


def draw_curve(
    shape: str,
    low: float | None,
    high: float | None,
    points: tuple[float, ...] = (),
    shares: Sequence[float] = (),
) -> Tensor:
    """Draw a guidance curve over the clip, [1, H, W, 3] in 0..1; ends of None are labelled as the model's own.

    shares: of the way from low to high over the clip, in place of the shape.
    """
    # Ends that depend on the model are drawn one apart.
    ends = (low if low is not None else (high or 1.0) - 1, high if high is not None else (low or 0.0) + 1)
    made = custom_guidance(points, POINTS) if points else guidance_curve(shape, *ends, POINTS)
    if shares:
        made = ends[0] + (ends[1] - ends[0]) * custom_guidance(tuple(shares), POINTS)
        shape = "a connected curve"
    scales = made.tolist()
    given = zip(ends, ("low", "high"), (low, high), strict=True)
    names = {} if points else {value: name for value, name, end in given if end is None}
    levels = {value: names.get(value, f"{value:g}") for value in (min(scales), max(scales))}
    shown = " and ".join(name for value, name in names.items() if value in levels)
    title = f"guidance: {shape}" + (f" ({shown} as the model was released)" if shown else "")
    return _page("", [Chart(title, [Curve(scales, width=4)], OVER_FRAMES, levels)])


def draw_sigmas(sigmas: Tensor) -> Tensor:
    """Draw noise levels [steps + 1] over the steps on a logarithmic axis, [1, H, W, 3] in 0..1."""
    values = sigmas.tolist()
    steps = len(values) - 1
    title = f"noise: {steps} step{'s' * (steps > 1)} from {values[0]:.4g} to {values[-1]:g}"
    marks = {0: "first step", steps: "last step"}
    return _page("", [Chart(title, [Curve(values, width=4)], marks, log_scale=True)])


def draw_motion(controls: Sequence[Control]) -> Tensor:
    """Draw what controls of the amount of motion change over the clip, [1, H, W, 3] in 0..1."""
    charts, words = [], []
    for control in controls:
        if isinstance(control, LowPassStart) and control.active:
            words.append(f"start at sigma {control.sigma:g}")
        if isinstance(control, SoftenedCondition) and control.active:
            words.append(f"soft image above sigma {control.sigma:g}")
        if isinstance(control, BucketGuidance) and control.active:
            words.append(f"guidance away from bucket {control.bucket:g}")
        if isinstance(control, MotionCurves):
            named = (("motion bucket", control.bucket), ("frames per second", control.fps))
            charts += [_over_clip(points, title) for title, points in named if points]
    return _page(", ".join(words) or ("" if charts else "nothing is changed"), charts)


def _over_clip(points: tuple[tuple[float, float], ...], title: str) -> Chart:
    values = custom_guidance(points, POINTS).tolist()
    levels = {value: f"{value:g}" for value in (min(values), max(values))}
    return Chart(title, [Curve(values, width=4)], OVER_FRAMES, levels)


def _page(title: str, charts: Sequence[Chart]) -> Tensor:
    return as_image(draw_charts(title, charts, width=WIDTH, height=HEIGHT, text=TEXT))
