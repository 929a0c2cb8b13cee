"""Charts: round marks, axes that fit their values, and pixels at the places of the numbers."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svd_core.charts import (
    LIMIT,
    MARK,
    PALETTE,
    PAPER,
    Bar,
    Chart,
    Curve,
    _log_axis,
    draw_bars,
    draw_charts,
    font,
    round_marks,
    shorten,
)


def pixels(page: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns [N, 2] of every pixel of a colour."""
    return np.argwhere((np.asarray(page) == colour).all(-1))


@pytest.mark.parametrize(
    ("values", "span", "include", "expected"),
    [
        ([0.0, 1.0], 0.0, None, [0.0, 0.5, 1.0]),
        ([0.1, 0.9], 0.0, None, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([3.0, 4.0], 0.0, 0.0, [0, 1, 2, 3, 4]),
        ([-3.0, 4.0], 0.0, None, [-4, -2, 0, 2, 4]),
        ([1.0, 1.0], 0.01, 1.0, [1.0, 1.005, 1.01]),  # the range grows to the side of the values
        ([0.99, 0.99], 0.02, 1.0, [0.98, 0.985, 0.99, 0.995, 1.0]),
        ([-1.0, 1.0], 10.0, 0.0, [-5, 0, 5]),  # and to both sides
        ([98.0, 104.0], 10.0, 100.0, [95, 100, 105, 110]),
        ([0.0, 0.0], 100.0, 0.0, [0, 50, 100]),
        ([2e-7, 9e-7], 0.0, 0.0, [0, 5e-7, 1e-6]),
    ],
)
def test_marks_are_round_and_enclose_all_values(values, span, include, expected):
    assert round_marks(values, span, include) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -5.0, 1e9, -1e-9])
def test_marks_of_one_value_have_room_on_both_sides_or_one(value):
    marks = round_marks([value])
    assert len(marks) >= 2 and marks[0] <= value <= marks[-1]
    assert all(b > a for a, b in itertools.pairwise(marks))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([700.0, 100.0, 0.002, 0.0], {"0", "0.01", "0.1", "1", "10", "100"}),
        ([10.0, 9.0, 0.0], {"0", "5", "10"}),
        ([5.0, 1.0], {"1", "2", "5"}),
        ([0.0, 0.0], {"0", "0.5", "1"}),
        ([1000.0, 1.0], {"1", "10", "100", "1000"}),
        ([0.3286, 0.2899], {"0.2899", "0.3286"}),
        ([3.0, 3.0], {"3"}),
    ],
)
def test_a_logarithmic_axis_marks_powers_of_ten_with_room_for_their_labels(values, labels):
    axis = _log_axis(Chart("", [], log_scale=True), values)
    assert set(axis.marks.values()) == labels
    rows = sorted(axis.down(mark) for mark in axis.marks)
    assert rows[0] >= 0 and rows[-1] <= 1
    assert all(b - a > 0.05 for a, b in itertools.pairwise(rows))
    assert [axis.down(value) for value in values] == sorted(axis.down(value) for value in values)


def test_a_curve_is_drawn_where_its_numbers_are():
    page = draw_charts("", [Chart("rises", [Curve([0.0, 10.0])], {0: "a", 1: "b"})], width=400, height=200)
    assert page.size == (400, 248)
    line = pixels(page, PALETTE[0])
    left, right = line[line[:, 1].argmin()], line[line[:, 1].argmax()]
    assert left[0] > 190 and right[0] < 80 and left[1] < 80 and right[1] > 350
    middle = line[line[:, 1] == (left[1] + right[1]) // 2][:, 0].mean()
    assert middle == pytest.approx((left[0] + right[0]) / 2, abs=2)


def test_positions_and_given_marks_set_the_axes():
    chart = Chart("", [Curve([1.0, 1.0], at=[10, 20])], {0: "0", 40: "40"}, {0.0: "low", 4.0: "high"})
    line = pixels(draw_charts("", [chart], width=400, height=200), PALETTE[0])
    whole = pixels(
        draw_charts("", [Chart("", [Curve([0.0, 4.0], at=[0, 40])], {}, {0.0: "low", 4.0: "high"})], width=400),
        PALETTE[0],
    )
    share = (line[:, 1].max() - line[:, 1].min()) / (whole[:, 1].max() - whole[:, 1].min())
    assert share == pytest.approx(0.25, abs=0.02)


def test_names_make_a_legend_and_verticals_are_marked():
    plain = Chart("t", [Curve([1.0, 2.0, 1.0])])
    named = Chart("t", [Curve([1.0, 2.0, 1.0], "one"), Curve([2.0, 1.0, 2.0], "two")], verticals=[1])
    pages = [draw_charts("", [chart], width=300) for chart in (plain, named)]
    assert not len(pixels(pages[0], MARK)) and len({column for _, column in pixels(pages[1], MARK)}) == 1
    assert not len(pixels(pages[0], PALETTE[1])) and len(pixels(pages[1], PALETTE[1])) > 50


@pytest.mark.parametrize(("values", "drawn"), [([], False), ([float("nan")], False), ([1.0], True), ([1.0] * 50, True)])
@pytest.mark.parametrize("log_scale", [False, True])
def test_charts_of_no_or_few_points_are_drawn_too(values, drawn, log_scale):
    page = draw_charts("title", [Chart("few", [Curve(values)], log_scale=log_scale)], width=300)
    assert bool(len(pixels(page, PALETTE[0]))) == drawn


@pytest.mark.parametrize(
    ("count", "columns", "height"), [(0, 1, 48), (1, 1, 148), (3, 3, 148), (4, 3, 272), (2, 1, 272)]
)
def test_the_page_is_as_high_as_its_charts(count, columns, height):
    page = draw_charts("", [Chart("c", [Curve([1.0])])] * count, columns=columns, width=500, height=100)
    assert page.size == (500, height)
    longer = draw_charts("title", [Chart("c", [Curve([1.0])])] * count, lines=[("a", "b")] * 3, width=500, height=100)
    assert longer.height > page.height or count > 1


def test_bars_are_as_long_as_their_parts_on_one_scale():
    page = draw_bars("t", [Bar("a", (3.0, 1.0), "4"), Bar("b", (2.0,), "2")], width=500)
    first, second = pixels(page, PALETTE[0]), pixels(page, PALETTE[1])
    rows = sorted({row for row, _ in first})
    top, bottom = (first[first[:, 0] == row][:, 1] for row in (rows[5], rows[-5]))
    assert (top.max() - top.min()) / (bottom.max() - bottom.min()) == pytest.approx(1.5, abs=0.02)
    across = second[second[:, 0] == rows[5]][:, 1]
    assert (across.max() - across.min()) / (bottom.max() - bottom.min()) == pytest.approx(0.5, abs=0.02)


def test_a_limit_is_a_line_at_its_value_and_an_alert_is_red():
    bars = [Bar("a", (4.0,), "4")]
    page = draw_bars("t", bars, limit=(2.0, "usable"), legend=("weights",), footer="fits", width=500)
    bar, line = pixels(page, PALETTE[0]), pixels(page, LIMIT)
    row = bar[len(bar) // 2][0]
    at = line[line[:, 0] == row][:, 1].mean()
    across = bar[bar[:, 0] == row][:, 1]
    assert at == pytest.approx((across.min() + across.max()) / 2, abs=3)
    red = draw_bars("t", bars, limit=(2.0, "usable"), legend=("weights",), footer="fits", alert=True, width=500)
    assert len(pixels(red, LIMIT)) > len(line)
    assert not len(pixels(draw_bars("t", bars, width=500), LIMIT))


def test_bars_of_nothing_are_a_line():
    page = draw_bars("t", [Bar("a", (0.0,), "0")], width=300)
    assert 0 < len({column for _, column in pixels(page, PALETTE[0])}) <= 2
    assert np.asarray(page)[0, 0].tolist() == list(PAPER)


@pytest.mark.parametrize(("width", "expected"), [(1000, "a long sentence"), (0, "...")])
def test_text_is_shortened_only_where_it_is_too_wide(width, expected):
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    assert shorten(pen, "a long sentence", width, 15) == expected
    cut = shorten(pen, "a long sentence", 60, 15)
    assert cut.endswith("...") and pen.textlength(cut, font=font(15)) <= 60 and len(cut) > 5
