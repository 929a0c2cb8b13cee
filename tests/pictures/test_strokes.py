"""Masks painted as strokes: where they lie, how large they are, and texts that are no strokes."""

import math

import pytest
import torch

from svd_core.pictures.strokes import MOST_CHARACTERS, paint, paint_objects, parse_strokes


def painted(text: str, height: int = 100, width: int = 200) -> torch.Tensor:
    return paint(parse_strokes(text)[0], height, width)


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("brush 0.1: 0.5,0.5", math.pi * 20**2),
        ("brush 0.05: 0.2,0.5 0.8,0.5", 120 * 20 + math.pi * 10**2),
        ("brush 0.05 50%: 0.2,0.5 0.8,0.5", (120 * 20 + math.pi * 10**2) / 2),
        ("box: 0.1,0.2 0.6,0.7", 100 * 50),
        ("box: 0.6,0.7 0.1,0.2", 100 * 50),
        ("box: 0.1,0.2 0.6,0.7; erase 0.1: 0.5,0.5 0.5,0.5", 100 * 50 - math.pi * 20**2),
        ("brush 0.1: 2,2", 0),
    ],
)
def test_strokes_cover_the_area_of_their_shape(text: str, area: float) -> None:
    assert float(painted(text).sum()) == pytest.approx(area, rel=0.02, abs=0.5)


def test_strokes_lie_where_their_points_are() -> None:
    mask = painted("brush 0.02: 0.25,0.8")
    rows, columns = (mask > 0.5).nonzero().float().mean(0).tolist()
    assert (rows + 0.5, columns + 0.5) == (pytest.approx(80, abs=0.5), pytest.approx(50, abs=0.5))


def test_objects_are_separate_and_empty_ones_are_left_out() -> None:
    masks = paint_objects(
        "box: 0,0 0.5,1 | brush 0.1: 0.5,0.5; erase 0.3: 0.5,0.5 | box: 0.5,0 1,1", torch.zeros(1, 4, 8, 3)
    )
    assert masks.shape == (2, 4, 8)
    assert torch.equal(masks.sum(0), torch.ones(4, 8))
    assert paint_objects("  ", torch.zeros(1, 4, 8, 3)) is None


@pytest.mark.parametrize(
    "text",
    ["brush: 0,0", "brush 0.1", "spray 0.1: 0,0", "brush 0.1: 0", "brush 0.1: 9,0", "box: 0,0", "box 0.1: 0,0 1,1",
     "brush nan: 0,0", "brush 0.1: nan,0", "brush 0.1 200%: 0,0", "brush 0.1: 0,0: 1,1", "brush 0: 0,0", "erase 0.1:"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a stroke; write brush 0.05"):
        parse_strokes(text)


def test_a_mask_that_would_fill_the_workflow_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST_CHARACTERS} characters"):
        parse_strokes("brush 0.1: 0,0; " * 9000)
