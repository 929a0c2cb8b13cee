"""Timing: which frames each panel gets, how fades overlap, and what the tables say about it."""

import csv
import io
from fractions import Fraction

import pytest

from svd_core.storyboard import Panel, Shot, Timing, plan_timing
from svd_core.storyboard.timing import _rounded


def panel(seconds: float | None, fade: float = 0.0, transition: str = "cut", **rest) -> Panel:
    return Panel(seconds=seconds, transition=transition, fade=fade, bucket=127, seed=23, **rest)


def faded(seconds: float | None, fade: float) -> Panel:
    return panel(seconds, fade, "cross-fade")


# Each row: panels, frames per second, and of each shot: start, frames, fade, tail.
LAYOUTS = [
    ("one panel", [panel(2)], 7, [(0, 14, 0, 0)]),
    ("no seconds", [panel(None), panel(1)], 7, [(0, 14, 0, 0), (14, 7, 0, 0)]),
    ("borders are rounded", [panel(0.5), panel(0.5), panel(0.5)], 7, [(0, 4, 0, 0), (4, 3, 0, 0), (7, 4, 0, 0)]),
    ("a fade", [panel(1), faded(1, 0.5)], 10, [(0, 10, 0, 5), (10, 10, 5, 0)]),
    ("a fade of a whole panel", [panel(1), faded(0.5, 0.5)], 10, [(0, 10, 0, 5), (10, 5, 5, 0)]),
    ("the first fade is unused", [faded(1, 0.5), panel(1)], 10, [(0, 10, 0, 0), (10, 10, 0, 0)]),
    ("a cut has no fade", [panel(1), panel(1, 0.5)], 10, [(0, 10, 0, 0), (10, 10, 0, 0)]),
    ("a fade below half a frame", [panel(1), faded(1, 0.04)], 10, [(0, 10, 0, 0), (10, 10, 0, 0)]),
    ("fades in a row", [panel(1), faded(1, 0.2), faded(1, 0.3)], 10, [(0, 10, 0, 2), (10, 10, 2, 3), (20, 10, 3, 0)]),
    ("one frame each", [panel(0.1), panel(0.1)], 10, [(0, 1, 0, 0), (1, 1, 0, 0)]),
]


@pytest.mark.parametrize(("panels", "fps", "expected"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS])
def test_panels_are_laid_out_in_whole_frames(panels: list, fps: int, expected: list):
    timing = plan_timing(panels, Fraction(fps), clip_frames=14)
    assert [(shot.start, shot.frames, shot.fade, shot.tail) for shot in timing.shots] == expected
    assert [shot.clip_frames for shot in timing.shots] == [frames + tail for _, frames, _, tail in expected]
    assert [shot.panel for shot in timing.shots] == panels
    assert timing.frames == sum(frames for _, frames, _, _ in expected) and timing.fps == fps


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), ("1/2", 1), ("49/100", 0), ("3/2", 2), ("5/2", 3), ("7/3", 2), ("8/3", 3), (4, 4)],
)
def test_halves_are_rounded_up(value, expected: int):
    assert _rounded(Fraction(value)) == expected


@pytest.mark.parametrize(
    ("panels", "words"),
    [
        ([panel(1), faded(0.5, 0.6)], "panel 1: the cross-fade lasts 0.6 s, longer than the panel of 0.5 s; shorten"),
        ([panel(0.04)], "panel 1: 0.04 s at 10 frames per second .*; give it at least 0.1 s"),
        ([panel(1), panel(0.04, row="row 7")], "row 7: 0.04 s"),
        # A panel without a frame is the fault, not the fade that would be longer.
        ([panel(1), faded(0.04, 0.6)], "less than a frame"),
    ],
)
def test_panels_that_are_too_short_are_named(panels: list, words: str):
    with pytest.raises(ValueError, match=words):
        plan_timing(panels, Fraction(10), clip_frames=14)


def timing() -> Timing:
    shots = (
        Shot(panel(1, title="Opening", move="zoom in 1.1"), 0, 10, 0, 3),
        Shot(panel(0.5, image="b.png"), 10, 5, 3, 0),
        Shot(Panel(bucket=40.5, seed=5), 15, 1, 0, 0),
    )
    return Timing(shots, Fraction(10))


def test_rows_hold_first_and_last_frames_and_their_times():
    rows = timing().rows()
    assert [(row["panel"], row["title"]) for row in rows] == [(1, "Opening"), (2, "b.png"), (3, "picture 3")]
    assert [(row["first_frame"], row["last_frame"], row["frames"]) for row in rows] == [
        (0, 9, 10),
        (10, 14, 5),
        (15, 15, 1),
    ]
    assert [(row["start"], row["end"], row["seconds"]) for row in rows] == [
        (0.0, 1.0, 1.0),
        (1.0, 1.5, 0.5),
        (1.5, 1.6, 0.1),
    ]
    assert [(row["transition"], row["fade_frames"]) for row in rows] == [("cut", 0), ("cross-fade", 3), ("cut", 0)]
    assert [(row["move"], row["bucket"], row["seed"]) for row in rows] == [
        ("zoom in 1.1", "127", 23),
        ("", "127", 23),
        ("", "40.5", 5),
    ]


def test_the_csv_holds_every_row_and_column():
    text = timing().to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [{name: str(value) for name, value in row.items()} for row in timing().rows()] == rows
    assert text.endswith("\n") and "\r" not in text


def test_the_text_is_an_aligned_table_with_the_length_of_the_film():
    lines = timing().text().splitlines()
    assert lines[0].split() == [
        "panel",
        "title",
        "start",
        "end",
        "seconds",
        "frames",
        "transition",
        "move",
        "bucket",
        "seed",
    ]
    assert lines[1].split() == ["1", "Opening", "0.00", "1.00", "1.00", "10", "cut", "zoom", "in", "1.1", "127", "23"]
    assert lines[2].split() == ["2", "b.png", "1.00", "1.50", "0.50", "5", "cross-fade", "3", "127", "23"]
    assert lines[4] == "3 panels, 16 frames, 1.6 s at 10 fps"
    assert all(line[lines[0].index("bucket") - 2 :].startswith("  ") for line in lines[1:4])
    assert not any(line.endswith(" ") for line in lines)
    single = Timing(timing().shots[:1], Fraction(15, 2))
    assert single.text().splitlines()[-1] == "1 panel, 10 frames, 1.333 s at 7.5 fps"


def test_seconds_are_rounded_to_milliseconds():
    assert [Timing((), Fraction(30000, 1001)).seconds(frames) for frames in (0, 1, 2, 30)] == [0.0, 0.033, 0.067, 1.001]
