"""A report as one page: its text, and its numbers as charts over the frames."""

from collections.abc import Sequence

from torch import Tensor

from ..charts import Chart, Curve, draw_charts
from ..pictures.sheets import as_image
from .clip_report import ClipReport

WIDTH, COLUMNS, CHART_HEIGHT, TEXT = 1280, 3, 220, 15


def plot(report: ClipReport) -> Tensor:
    """Return the report as a page [1, H, W, 3] in 0..1: its text, and a chart per measure over the frames."""
    page = draw_charts(
        "Clip report",
        _charts(report),
        lines=report.lines(),
        columns=COLUMNS,
        width=WIDTH,
        height=CHART_HEIGHT,
        text=TEXT,
    )
    return as_image(page)


def _charts(report: ClipReport) -> list[Chart]:
    amount = {"mean": report.motion, "fastest 5 %": report.fast_motion}
    if report.motion_inside is not None and report.motion_outside is not None:
        amount |= {"inside mask": report.motion_inside, "outside": report.motion_outside}
    steps = {"step": report.step, "last to first": [report.loop_step] * len(report.step)}
    percent = {
        "contrast": [100 * factor for factor in report.contrast],
        "sharpness": [100 * factor for factor in report.sharpness],
    }
    rigid = {"share": [100 * share for share in report.rigid]}
    camera, asked = report.camera, report.asked
    path, lens, turn = {"right": camera.right, "up": camera.up}, {"zoom": camera.zoom}, {"roll": camera.roll}
    if asked is not None:
        path |= {"right, asked": asked.right, "up, asked": asked.up}
        lens |= {"asked": asked.zoom}
        turn |= {"asked": asked.roll}
    charts = [
        _chart(report, "As a camera: middle of the frame, % of the width", path, span=2, first=0),
        _chart(report, "As a camera: zoom, factor", lens, span=0.05, include=1.0, first=0),
        _chart(report, "As a camera: roll, degrees clockwise", turn, span=2, first=0),
        _chart(report, "Picture moves, px a frame", {"right": report.pan_x, "down": report.pan_y}, span=0.5),
        _chart(report, "Zoom, factor a frame", {"zoom": report.zoom}, span=0.01, include=1.0),
        _chart(report, "Roll, degrees a frame", {"clockwise": report.roll}, span=0.5),
        _chart(report, "Motion amount, px a frame", amount, span=0.5),
        _chart(report, "Share that follows pan, zoom and roll, %", rigid, span=100),
        _chart(report, "Step to the next frame, %", steps, span=1),
        _chart(report, "Flicker beyond motion, %", {"flicker": report.flicker}, span=1),
        _chart(report, "Colour drift from frame 0, %", {"colour": report.colour}, span=1, first=0),
        _chart(report, "Contrast and sharpness, % of frame 0", percent, span=10, include=100, first=0),
    ]
    if report.similarity is not None:
        likeness = {"cosine": report.similarity}
        charts.append(_chart(report, "Similarity to the start image", likeness, span=0.05, include=1.0, first=0))
    return charts


def _chart(
    report: ClipReport,
    title: str,
    curves: dict[str, Sequence[float]],
    *,
    span: float,
    include: float = 0.0,
    first: int = 1,
) -> Chart:
    """Return a chart over the frames of the clip, whose curves begin at frame `first`."""
    last = report.frames - 1
    return Chart(
        title,
        [Curve(values, name, range(first, first + len(values))) for name, values in curves.items()],
        {frame: f"{frame}" if frame else "frame 0" for frame in sorted({0, last // 2, last})},
        span=span,
        include=include,
        verticals=[seam.frame for seam in report.seams],
        empty="needs two frames",
    )
