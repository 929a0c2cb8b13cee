"""Charts as pictures: curves with axes, and bars, painted with Pillow because ComfyUI ships no plotting library.

Also the palette and the font of every page that the project draws. All sizes are in pixels, all colours 8-bit RGB.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

PAPER, PANEL, INK, FAINT = (255, 255, 255), (250, 250, 251), (40, 42, 48), (110, 112, 120)
GRID, LINE, MARK, BEST, LIMIT = (224, 225, 230), (205, 206, 212), (190, 160, 60), (28, 140, 70), (190, 50, 50)
PALETTE = ((28, 104, 190), (214, 96, 30), (40, 140, 80), (150, 70, 160), (190, 150, 40))
"""Colours of curves and bars, in order; a sixth curve gets the first colour again."""

MARGIN, GAP = 24, 24  # around a page, and between its charts
DOT = 2.5  # radius
FEW_POINTS = 40  # beyond, dots would hide the line
MOST_SPACES = 4  # between the marks of a vertical axis, before they are rounded
ROOM = 0.1  # of a logarithmic axis, kept free around the mark of 0
BAR, BAR_GAP = 26, 14


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Return Pillow's own font, `size` pixels high."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def shorten(pen: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """Return `text`, cut and ended with dots if it is wider than `width` pixels at that font size."""
    if pen.textlength(text, font=font(size)) <= width:
        return text
    while text and pen.textlength(f"{text}...", font=font(size)) > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


@dataclass(frozen=True)
class Curve:
    """A line through `values`, drawn at the horizontal positions `at` (default: 0, 1, 2, ...).

    name: its entry in the legend; a chart without names has no legend. colour: default by its place in the chart.
    """

    values: Sequence[float]
    name: str = ""
    at: Sequence[float] | None = None
    colour: Colour | None = None
    width: int = 2

    def points(self) -> list[tuple[float, float]]:
        """Return the points (position, value)."""
        at = range(len(self.values)) if self.at is None else self.at
        return list(zip(at, self.values, strict=True))


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    x_marks: labels below the horizontal axis by position; the axis covers them and every point.
    y_marks: labels of the vertical axis by value; None marks round numbers.
    span: the least range of the vertical axis, so that rounding looks flat. include: a value that it always shows.
    log_scale: a logarithmic vertical axis; values of 0 are drawn at a quarter of the least positive value, marked 0.
    verticals: positions of vertical lines. empty: text in place of the curves if they have no points.
    """

    title: str
    curves: Sequence[Curve]
    x_marks: dict[float, str] = field(default_factory=dict)
    y_marks: dict[float, str] | None = None
    span: float = 0.0
    include: float | None = None
    log_scale: bool = False
    verticals: Sequence[float] = ()
    empty: str = "no values"


@dataclass(frozen=True)
class Bar:
    """A horizontal bar of `parts`, end to end, with its name on the left and a note on the right.

    colours: one per part; default by the palette.
    """

    name: str
    parts: Sequence[float]
    note: str = ""
    colours: Sequence[Colour] | None = None


def draw_charts(
    title: str,
    charts: Sequence[Chart],
    *,
    lines: Sequence[tuple[str, str]] = (),
    columns: int = 1,
    width: int = 640,
    height: int = 240,
    text: int = 15,
) -> Image.Image:
    """Return a page `width` pixels wide: a title, pairs (name, value) of text in two columns, and a grid of charts.

    height: of one chart. text: font size of the charts' titles; the others follow from it.
    """
    half = -(-len(lines) // 2)
    line_height, title_size = text + 6, round(1.4 * text)
    head = MARGIN + (title_size + 12 if title else 0)
    top = head + (half * line_height + GAP if half else 0)
    rows = -(-len(charts) // columns)
    page = Image.new("RGB", (width, round(top + max(0, rows * (height + GAP) - GAP) + MARGIN)), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 4), shorten(pen, title, width - 2 * MARGIN, title_size), fill=INK, font=font(title_size))
    for index, (name, value) in enumerate(lines):
        x = MARGIN + index // half * (width - 2 * MARGIN) // 2
        y = head + index % half * line_height
        pen.text((x, y), name, fill=FAINT, font=font(text))
        room = (width - 2 * MARGIN) // 2 - 8 * text - 12
        pen.text((x + 8 * text, y), shorten(pen, value, room, text), fill=INK, font=font(text))
    chart_width = (width - 2 * MARGIN - (columns - 1) * GAP) / columns
    for place, chart in enumerate(charts):
        left, upper = MARGIN + place % columns * (chart_width + GAP), top + place // columns * (height + GAP)
        draw_chart(pen, chart, (left, upper, left + chart_width, upper + height), text)
    return page


def draw_chart(pen: ImageDraw.ImageDraw, chart: Chart, box: Box, text: int = 15) -> None:
    """Draw one chart into `box`."""
    left, upper, right, lower = box
    small = max(10, text - 3)
    names = [curve.name for curve in chart.curves if curve.name]
    pen.rectangle(box, fill=PANEL, outline=GRID)
    pen.text((left + 10, upper + 5), shorten(pen, chart.title, right - left - 20, text), fill=INK, font=font(text))
    if names:
        _draw_legend(pen, chart, left + 10, upper + text + 10, text - 2)
    points = [point for curve in chart.curves for point in curve.points() if math.isfinite(point[1])]
    if not points:
        pen.text((left + 4 * text, (upper + lower) / 2), chart.empty, fill=FAINT, font=font(text))
        return
    axis = _vertical_axis(chart, [value for _, value in points])
    places = [*(place for place, _ in points), *chart.x_marks]
    first, last = min(places), max(places)
    label_width = max(pen.textlength(label, font=font(small)) for label in axis.marks.values())
    inner = (
        left + label_width + 16,
        upper + text + 22 + (text if names else 0),
        right - 14,
        lower - (small + 12 if chart.x_marks else 12),
    )

    def at(place: float, value: float) -> tuple[float, float]:
        across = (place - first) / (last - first) if last > first else 0.0
        return inner[0] + across * (inner[2] - inner[0]), inner[1] + axis.down(value) * (inner[3] - inner[1])

    _draw_marks(pen, inner, axis.marks, chart.x_marks, at, small)
    for place in chart.verticals:
        x = at(place, points[0][1])[0]
        pen.line([(x, inner[1]), (x, inner[3])], fill=MARK)
    for number, curve in enumerate(chart.curves):
        _draw_curve(pen, curve, _colour(curve, number), at)


def draw_bars(
    title: str,
    bars: Sequence[Bar],
    *,
    subtitle: str = "",
    legend: Sequence[str] = (),
    limit: tuple[float, str] | None = None,
    footer: str = "",
    alert: bool = False,
    width: int = 640,
    text: int = 15,
) -> Image.Image:
    """Return horizontal bars from 0 on one scale, as a page `width` pixels wide.

    legend: names of the bars' parts. limit: a value marked by a vertical line, and its name. footer: a sentence below
    the bars, `alert` in red.
    """
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    name_width = max(pen.textlength(bar.name, font=font(text)) for bar in bars)
    note_width = max(pen.textlength(bar.note, font=font(text)) for bar in bars)
    title_size, entries = round(1.4 * text), [*legend, *([limit[1]] if limit else [])]
    top = MARGIN + title_size + 12 + (text + 12 if subtitle else 0)
    bottom = top + len(bars) * (BAR + BAR_GAP)
    page = Image.new("RGB", (width, bottom + (text + 14 if entries or footer else 0) + MARGIN - BAR_GAP), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 4), shorten(pen, title, width - 2 * MARGIN, title_size), fill=INK, font=font(title_size))
    pen.text((MARGIN, MARGIN + title_size + 8), subtitle, fill=FAINT, font=font(text))
    left, right = MARGIN + name_width + 14, width - MARGIN - note_width - 12
    longest = max([*(sum(bar.parts) for bar in bars), limit[0] if limit else 0.0]) or 1.0
    for number, bar in enumerate(bars):
        y = top + number * (BAR + BAR_GAP)
        pen.text((MARGIN, y + (BAR - text) / 2 - 2), bar.name, fill=INK, font=font(text))
        x = left
        for part, colour in zip(bar.parts, bar.colours or PALETTE, strict=False):
            end = x + part / longest * (right - left)
            pen.rectangle((x, y, max(end, x + 1), y + BAR), fill=colour)
            x = end
        note_at = right + 12 if limit else x + 10
        pen.text((note_at, y + (BAR - text) / 2 - 2), bar.note, fill=FAINT, font=font(text))
    pen.line((left, top - 4, left, bottom - BAR_GAP + 4), fill=LINE)
    if limit:
        x = left + limit[0] / longest * (right - left)
        pen.line((x, top - 6, x, bottom - BAR_GAP + 6), fill=LIMIT, width=2)
    x, colours = MARGIN, [*PALETTE[: len(legend)], LIMIT]
    for colour, name in zip(colours, entries, strict=False):
        x = _draw_entry(pen, colour, name, x, bottom + 4, text)
    pen.text((x, bottom + 4), footer, fill=LIMIT if alert else INK, font=font(text))
    return page


@dataclass(frozen=True)
class _Axis:
    """A vertical axis: its marks by value, and its ends on the scale that is linear on the page."""

    marks: dict[float, str]
    low: float
    high: float
    scale: Callable[[float], float]

    def down(self, value: float) -> float:
        """Return how far below the upper end a value is drawn, 0 to 1."""
        return (self.high - self.scale(value)) / (self.high - self.low) if self.high > self.low else 0.5


def _vertical_axis(chart: Chart, values: list[float]) -> _Axis:
    if chart.log_scale:
        return _log_axis(chart, values)
    if chart.y_marks is not None:
        shown = [*values, *chart.y_marks]
        low, high = min(shown), max(shown)
        return _Axis(chart.y_marks, low, high, float)
    marks = round_marks(values, chart.span, chart.include)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    return _Axis({value: f"{value:.{digits}f}" for value in marks}, marks[0], marks[-1], float)


def _log_axis(chart: Chart, values: list[float]) -> _Axis:
    """Return a logarithmic axis; without positive values it shows the range around 1."""
    positive = [value for value in values if value > 0] or [1.0]
    least, most = min(positive), max(positive)
    floor = least / 4 if min(values) <= 0 else least

    def scale(value: float) -> float:
        return math.log10(max(value, floor))

    marks = chart.y_marks
    if marks is None:
        low, high = math.log10(floor), math.log10(most)
        clear = low + ROOM * (high - low) if floor < least else low - 1e-9  # no label over that of 0
        marks = {floor: "0"} if floor < least else {}
        marks |= {value: f"{value:.4g}" for value in _log_marks(floor, most) if math.log10(value) >= clear}
    shown = [scale(value) for value in (*positive, floor, *marks)]
    low, high = min(shown), max(shown)
    margin = 0.02 * (high - low) or 0.1
    return _Axis(marks, low - margin, high + margin, scale)


def _log_marks(least: float, most: float) -> list[float]:
    """Return powers of ten in a range, or numbers 1, 2, 5 times those, or else both ends."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    for factors in ((1,), (1, 2, 5)):
        marks = [factor * 10.0**power for power in powers for factor in factors]
        marks = [mark for mark in marks if least * (1 - 1e-9) <= mark <= most * (1 + 1e-9)]
        if len(marks) > 1:
            return marks
    return sorted({least, most})


def round_marks(values: Sequence[float], span: float = 0.0, include: float | None = None) -> list[float]:
    """Return evenly spaced round numbers that enclose `values` and `include`, over a range of at least `span`."""
    shown = [*values] if include is None else [*values, include]
    low, high = min(shown), max(shown)
    missing = max(span, abs(high) * 1e-6, 1e-9) - (high - low)
    if missing > 0:
        # The range grows to the side where the values are.
        middle = (low + high) / 2 if include is None else include
        below = 0.0 if min(values) >= middle else missing if max(values) <= middle else missing / 2
        low, high = low - below, high + missing - below
    rough = (high - low) / MOST_SPACES
    unit = 10.0 ** math.floor(math.log10(rough))
    space = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / space + 1e-6), math.ceil(high / space - 1e-6)
    return [space * number for number in range(first, max(last, first + 1) + 1)]


def _draw_marks(
    pen: ImageDraw.ImageDraw,
    inner: Box,
    y_marks: dict[float, str],
    x_marks: dict[float, str],
    at: Callable[[float, float], tuple[float, float]],
    size: int,
) -> None:
    """Draw a line across for each mark of the vertical axis, and the labels of both axes."""
    left, _, right, lower = inner
    for value, label in y_marks.items():
        y = at(0, value)[1]
        pen.line([(left, y), (right, y)], fill=GRID)
        pen.text(
            (left - 6 - pen.textlength(label, font=font(size)), y - 0.65 * size), label, fill=FAINT, font=font(size)
        )
    pen.line([(left, lower), (right, lower)], fill=LINE)
    some_value = next(iter(y_marks))
    for place, label in x_marks.items():
        length = pen.textlength(label, font=font(size))
        x = min(max(at(place, some_value)[0] - length / 2, left), right - length)
        pen.text((x, lower + 4), label, fill=FAINT, font=font(size))


def _draw_curve(
    pen: ImageDraw.ImageDraw, curve: Curve, colour: Colour, at: Callable[[float, float], tuple[float, float]]
) -> None:
    points = [at(place, value) for place, value in curve.points() if math.isfinite(value)]
    if len(points) > 1:
        pen.line(points, fill=colour, width=curve.width, joint="curve")
    if len(points) <= FEW_POINTS:
        radius = DOT * max(1, curve.width / 2)
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _draw_legend(pen: ImageDraw.ImageDraw, chart: Chart, x: float, y: float, size: int) -> None:
    for number, curve in enumerate(chart.curves):
        if curve.name:
            x = _draw_entry(pen, _colour(curve, number), curve.name, x, y, size)


def _draw_entry(pen: ImageDraw.ImageDraw, colour: Colour, name: str, x: float, y: float, size: int) -> float:
    """Draw an entry of a legend at (x, y); return where the next one begins."""
    pen.rectangle((x, y + 0.45 * size, x + 10, y + 0.45 * size + 4), fill=colour)
    pen.text((x + 15, y), name, fill=FAINT, font=font(size))
    return x + 15 + pen.textlength(name, font=font(size)) + 14


def _colour(curve: Curve, number: int) -> Colour:
    return PALETTE[number % len(PALETTE)] if curve.colour is None else curve.colour
