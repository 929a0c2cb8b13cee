"""Drag paths, pasted objects and their signal: limits and places by numbers."""

import logging
import math

import pytest
import torch

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.drag import (
    BACKGROUND,
    DragPath,
    drag_frames,
    drag_signal,
    film_objects,
    parse_drag,
    parse_drags,
)

ACROSS = ((0.0, 0.0), (0.5, 0.0))


def square(left: int, top: int, side: int, size: int = 32) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + side, left : left + side] = 1.0
    return mask


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"points": ((-1.0, 2.0), (2.0, -1.0))}, True), ({"points": ((0, 0), (2.01, 0))}, False),
        ({"points": ((0, 0), (0, -1.01))}, False), ({"points": ((0, 0),)}, False), ({"points": ()}, False),
        ({"scales": (0.1, 10.0)}, True), ({"scales": (0.09,)}, False), ({"scales": (10.1,)}, False),
        ({"turns": (3600.0, -3600.0)}, True), ({"turns": (3601.0,)}, False), ({"turns": (math.nan,)}, False),
        ({"easing": "ease-in"}, True), ({"easing": "bounce"}, False),
    ],
)  # fmt: skip
def test_limits_of_a_path(given: dict, taken: bool) -> None:
    if taken:
        DragPath(**{"points": ACROSS, **given})
    else:
        with pytest.raises(ValueError, match="(use|write)"):
            DragPath(**{"points": ACROSS, **given})


PLACES = [
    # points, scales, turns, easing, frames -> shift x, scale and turn of each frame
    ("0,0; 0.5,0", "", "", "linear", 3, [0, 0.25, 0.5], [1, 1, 1], [0, 0, 0]),
    ("0.2,0.3; 0.7,0.3", "2", "90", "linear", 3, [0, 0.25, 0.5], [1, 1.5, 2], [0, 45, 90]),
    ("0,0; 0.4,0; 0,0", "2, 1", "10, -10", "linear", 5, [0, 0.2, 0.4, 0.2, 0], [1, 1.5, 2, 1.5, 1], [0, 5, 10, 0, -10]),
    ("0,0; 0.3,0; 0.4,0", "", "", "linear", 5, [0, 0.1, 0.2, 0.3, 0.4], [1] * 5, [0] * 5),
    ("0,0; 0,0", "3", "", "linear", 3, [0, 0, 0], [1, 2, 3], [0, 0, 0]),
    ("0,0; 0.4,0", "2", "", "ease-in", 3, [0, 0.1, 0.4], [1, 1.25, 2], [0, 0, 0]),
]


@pytest.mark.parametrize(("points", "scales", "turns", "easing", "frames", "x", "scale", "turn"), PLACES)
def test_places_are_reached_at_a_constant_speed(points, scales, turns, easing, frames, x, scale, turn) -> None:
    places = parse_drag(points, scales, turns, easing).places(frames)
    assert places.dtype == torch.float64 and not places[:, 1].any()
    for column, expected in ((0, x), (2, scale), (3, turn)):
        assert places[:, column].tolist() == pytest.approx(expected)


def test_two_frames_are_enough() -> None:
    assert parse_drag("0,0; 0.5,0.25").places(2)[1].tolist() == pytest.approx([0.5, 0.25, 1, 0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least 2 points .got 0"), ("0,0", "at least 2 points .got 1"),
        ("0,0; 1", "'1' .* 1 numbers; write x,y"),
        ("0,0; a,b", "'a,b' of the drag path is not a list of numbers"),
    ],
)  # fmt: skip
def test_other_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_drag(text)


def test_empty_points_between_separators_are_skipped() -> None:
    assert parse_drag("0,0;; 0.5 0.25;").points == ((0.0, 0.0), (0.5, 0.25))


def test_lines_and_bars_separate_objects() -> None:
    paths = parse_drags("0,0; 0.1,0 | 0,0; 0.2,0\n\n0,0; 0.3,0", "2", "5", "ease")
    assert [path.points[1][0] for path in paths] == [0.1, 0.2, 0.3]
    assert {(path.scales, path.turns, path.easing) for path in paths} == {((2.0,), (5.0,), "ease")}


def test_an_object_moves_and_uncovers_what_is_around_it() -> None:
    picture = torch.full((1, 3, 32, 32), -1.0)
    picture[..., 8:16, 4:12] = 1.0
    warped, there = drag_frames(picture, [(square(4, 8, 8), parse_drag("0,0; 0.5,0.25"))], 3)
    assert torch.equal(warped.frames[0], picture[0]) and warped.valid[0].all()
    assert torch.equal(there[0], square(4, 8, 8)[0])
    end = warped.frames[2, 0]
    assert end[16:24, 20:28].min() > 0.99 and end[8:14, 4:12].max() < -0.99, "it is there, and gone here"
    # Free is where the object was, 2 pixels around it included, and where it has not come to lie.
    free = torch.ones(32, 32)
    free[6:18, 2:14] = 0.0
    free[16:24, 20:28] = 1.0
    assert torch.equal(warped.valid[2, 0], free)


def test_later_objects_lie_over_earlier_ones_and_may_leave(caplog) -> None:
    picture = torch.full((1, 3, 32, 32), 0.0)
    picture[..., :8, :8], picture[..., :8, 24:] = 1.0, -1.0
    objects = [(square(0, 0, 8), parse_drag("0,0; 0.375,0")), (square(24, 0, 8), parse_drag("0,0; -0.375,0"))]
    end = drag_frames(picture, objects, 2)[0].frames[1, 0]
    assert end[:7, 12:20].max() < -0.9
    with caplog.at_level(logging.WARNING, "svd_reel"):
        drag_frames(picture, [objects[0], (square(24, 0, 8), parse_drag("0,0; 2,0"))], 2)
    assert [record.getMessage()[:8] for record in caplog.records] == ["object 2"]


def test_an_empty_mask_is_named_by_its_number() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    path = parse_drag("0,0; 1,0")
    with pytest.raises(ValueError, match="object 2 is empty; paint"):
        drag_frames(picture, [(square(0, 0, 8), path), (square(0, 0, 8) * 0.5, path)], 2)


@pytest.mark.parametrize("background", [0.0, 0.5, 1.0])
def test_a_signal_is_sure_of_objects_free_behind_them_and_holds_the_rest(background: float) -> None:
    told = []
    made = drag_signal(
        lambda frame: frame[:, :1, ::8, ::8].repeat(1, 4, 1, 1),
        torch.full((1, 3, 32, 32), 0.5),
        [(square(0, 0, 8), parse_drag("0,0; 0.5,0.5"))],
        2,
        background=background,
        on_frame=lambda *done: told.append(done),
    )
    rows = made.signal.valid[:, 0].tolist()
    assert rows[0] == [[1.0, *[background] * 3], *[[background] * 4] * 3]
    # The edge of the hole reaches 2 pixels into the next cells.
    assert rows[1] == [[0, 0, background, background], [0, 0, background, background],
                       [background, background, 1, background], [background] * 4]  # fmt: skip
    assert torch.allclose(made.signal.latents, torch.tensor(0.5 * 0.18215)) and told == [(1, 2), (2, 2)]
    assert BACKGROUND == 0.5


@pytest.mark.parametrize("background", [-0.01, 1.01])
def test_a_hold_outside_is_refused(background: float) -> None:
    with pytest.raises(ValueError, match=rf"got {background}\); use 0.5"):
        drag_signal(
            lambda x: x,
            torch.zeros(1, 3, 32, 32),
            [(square(0, 0, 8), parse_drag("0,0; 1,0"))],
            2,
            background=background,
        )


def middle(there: torch.Tensor) -> tuple[float, float]:
    """The centre (x, y) of a plane [1, H, W], in widths and heights."""
    height, width = there.shape[-2:]
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return tuple(float((there[0] * axis).sum() / there.sum()) for axis in (x, y))


def test_a_camera_films_the_scene_in_which_objects_move() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    objects = [(square(16, 24, 16, 64), parse_drag("0,0; 0.25,0"))]
    pasted, there = drag_frames(picture, objects, 3)
    still = film_objects(pasted, there, parse_path("pan right 0.2").poses(3).at([0, 0, 0]))
    assert all(torch.equal(one, other) for one, other in zip((*still[0], still[1]), (*pasted, there), strict=True))
    filmed, seen = film_objects(pasted, there, parse_path("pan right 0.2").poses(3))
    # The object goes right by 0.25 in the scene, and everything goes left by 0.2 in the frame.
    moved = middle(seen[-1])[0] - middle(seen[0])[0]
    assert moved == pytest.approx(0.05, abs=0.02) and middle(seen[-1])[1] == pytest.approx(0.5, abs=0.02)
    assert filmed.valid[-1, 0, :, -8:].max() == 0, "the picture does not reach there"
    far = film_objects(pasted, there, parse_path("truck right 0.2").poses(3), torch.ones(1, 1, 64, 64))
    assert middle(far[1][-1])[0] == pytest.approx(middle(seen[-1])[0], abs=0.03)


def test_cells_that_a_camera_shows_are_held_like_the_object() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    objects = [(square(16, 24, 16, 64), parse_drag("0,0; 0.25,0"))]
    encode = lambda image: torch.zeros(1, 4, 8, 8)  # noqa: E731
    signal = drag_signal(encode, picture, objects, 3, camera=parse_path("pan right 0.2"))[0]
    alone = drag_signal(encode, picture, objects, 3)[0]
    assert set(signal.valid.unique().tolist()) == {0.0, 1.0}
    assert set(alone.valid.unique().tolist()) == {0.0, BACKGROUND, 1.0}
