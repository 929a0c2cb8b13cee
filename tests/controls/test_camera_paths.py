"""Camera paths, guessed depth and filled holes by numbers: times, splines, distances."""

import math

import pytest
import torch

from svd_core.controls.camera.control import scene_depth
from svd_core.controls.camera.depth import depth_from_foreground, depth_from_map
from svd_core.controls.camera.moves import camera_move, parse_path
from svd_core.controls.camera.path import EASINGS, CameraPath, Chain, Hold, Move, Through, Together, held_frames
from svd_core.controls.camera.poses import PARAMETERS
from svd_core.controls.camera.warping import fill_holes, shrink


def column(path: CameraPath, name: str, frames: int) -> list[float]:
    """One parameter over the clip."""
    return path.table(frames)[:, PARAMETERS.index(name)].tolist()


def move(name: str = "pan", amount: float = 1.0, **rest) -> Move:
    return Move(((name, amount),), **rest)


@pytest.mark.parametrize(
    ("easing", "expected"),
    [
        ("linear", [0, 0.25, 0.5, 0.75, 1]),
        ("ease", [0, 0.15625, 0.5, 0.84375, 1]),
        ("ease-in", [0, 0.0625, 0.25, 0.5625, 1]),
        ("ease-out", [0, 0.4375, 0.75, 0.9375, 1]),
    ],
)
def test_easings_at_the_quarters(easing: str, expected: list) -> None:
    assert column(CameraPath(move(easing=easing)), "pan", 5) == pytest.approx(expected)
    assert list(EASINGS) == ["linear", "ease", "ease-in", "ease-out"]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0, 1], [0, 0.25, 0.5, 0.75, 1]),
        ([5, 6], [0, 0.25, 0.5, 0.75, 1]),  # relative to the first
        ([0, 1, 2], [0, 0.5, 1, 1.5, 2]),
        # There and back: Catmull-Rom with the ends mirrored, half way (9 * (0 + 1) - (-1 + 0)) / 16.
        ([0, 1, 0], [0, 0.625, 1, 0.625, 0]),
        ([0, 1, 1, 0, 0], [0, 1, 1, 0, 0]),
    ],
)
def test_a_spline_runs_smoothly_through_its_points(places: list, expected: list) -> None:
    path = CameraPath(Through(tuple((("x", float(place)),) for place in places)))
    assert column(path, "x", 5) == pytest.approx(expected)
    assert not path.table(5)[:, PARAMETERS.index("y")].any()


def test_a_spline_bends_between_its_points() -> None:
    path = CameraPath(Through(tuple((("x", place),) for place in (0.0, 1.0, 1.0, 0.0))))
    # Half way between two points: (9 (b + c) - a - d) / 16.
    assert column(path, "x", 7) == pytest.approx([0, 9 / 16 - (-1 + 1) / 16, 1, 18 / 16, 1, 9 / 16, 0])


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("truck right 1", "x", [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1]),
        ("truck right 1 then hold 3", "x", [0, 1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("hold 5 then truck right 1", "x", [0, 0, 0, 0, 0, 0, 1]),
        ("truck right 1 for 2 then pedestal up 1", "x", [0, 0.25, 0.5, 0.75, 1, 1, 1]),
        ("truck right 1 for 2 then pedestal up 1", "y", [0, 0, 0, 0, 0, 0.5, 1]),
        # Of two moves at once the longer share counts.
        ("truck right 1 for 2, zoom in 2 then pedestal up 1", "y", [0, 0, 0, 0, 0, 0.5, 1]),
        ("pedestal up 1 then hold 2 then truck right 1", "x", [0, 0, 0, 0, 0, 0.5, 1]),
        ("truck right 1 then truck left 1", "x", [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0]),
        ("hold 4", "x", [0] * 7),
        ("hold 40", "x", [0] * 7),
    ],
)
def test_parts_of_a_path_take_their_frames(text: str, name: str, expected: list) -> None:
    assert column(parse_path(text), name, 7) == pytest.approx(expected)


def test_clips_of_one_and_two_frames() -> None:
    path = parse_path("truck right 1")
    assert column(path, "x", 1) == [0] and column(path, "x", 2) == [0, 1]


@pytest.mark.parametrize(
    ("part", "frames"),
    [
        (Hold(3), 3),
        (move(), 0),
        (Chain((Hold(2), move(), Hold(1))), 3),
        (Together((move(), Chain((Hold(2), move())))), 2),
        (Together((Chain((Hold(2), move())), Chain((Hold(5), move())))), 5),
        (Chain((Hold(1), Together((move(), Chain((move(), Hold(4))))))), 5),
    ],
)
def test_held_frames_are_counted(part, frames: int) -> None:
    assert held_frames(part) == frames


def test_groups_and_chains_are_flat_and_say_so() -> None:
    left, up, nearer = (CameraPath(move(text=text)) for text in ("left", "up", "nearer"))
    assert left.also(up).also(nearer).text == "left, up, nearer"
    assert left.then(up).also(nearer).text == "(left then up), nearer"
    assert left.also(up).then(nearer).text == "left, up then nearer"
    assert len(left.also(up).also(nearer).part.parts) == len(left.then(up).then(nearer).part.parts) == 3
    assert (left.then(up).part.share, left.also(up).part.share) == (2, 1)


@pytest.mark.parametrize(
    ("text", "name", "amount"),
    [
        ("tilt up 45deg", "tilt", math.pi / 4),
        ("tilt down 0.5", "tilt", -math.atan(0.5)),
        ("pan right 50%", "pan", math.atan(0.5)),
        ("zoom in 200%", "zoom", math.log(2)),
        ("zoom out 4", "zoom", -math.log(4)),
        ("roll cw 180", "roll", math.pi),
        ("orbit left 60", "orbit_x", -math.pi / 3),
        ("orbit up 30 deg", "orbit_y", math.pi / 6),
        ("arc down 60", "arc_y", -math.pi / 3),
        ("dolly in 0.9", "z", 0.9),
        ("pedestal down 100%", "y", -1),
        ("truck left 1e-1", "x", -0.1),
    ],
)
def test_amounts_become_parameters(text: str, name: str, amount: float) -> None:
    assert column(parse_path(text), name, 3)[-1] == pytest.approx(amount)


@pytest.mark.parametrize(
    ("name", "usual", "most"),
    [
        ("pan left", 0.15, 1), ("tilt up", 0.1, 1), ("zoom in", 1.25, 4), ("roll cw", 8, 180), ("dolly out", 0.2, 0.9),
        ("truck right", 0.15, 1), ("pedestal up", 0.1, 1), ("orbit up", 12, 60), ("arc left", 16, 60),
        ("handheld", 0.01, 0.1),
    ],
)  # fmt: skip
def test_usual_and_largest_amounts(name: str, usual: float, most: float) -> None:
    assert camera_move(name).text == f"{name} {usual:g}"
    assert camera_move(name, most).text == f"{name} {most:g}"
    with pytest.raises(ValueError, match=rf"{most:g}.*got {most + 0.01:g}\); use about {usual:g}"):
        camera_move(name, most + 0.01)


@pytest.mark.parametrize(("least", "name"), [(0, "pan left"), (1, "zoom out"), (0, "orbit up"), (0, "handheld")])
def test_least_amounts_stand_still(least: float, name: str) -> None:
    assert not camera_move(name, least).table(5).any()
    with pytest.raises(ValueError, match=f"got {least - 0.01:g}"):
        camera_move(name, least - 0.01)


def test_a_hand_sways_in_three_waves_of_its_amount() -> None:
    table = camera_move("handheld", 0.1).table(1000)
    # 43, 110 and 190 whole waves, of once, half and a quarter of the angle, in pan, tilt and roll alike.
    waves = torch.fft.rfft(table[:, :3] / math.atan(0.1), dim=0).abs() / 500
    expected = torch.zeros_like(waves)
    for wave, size in ((43, 1.0), (110, 0.5), (190, 0.25)):
        expected[wave] = size
    torch.testing.assert_close(waves[1:], expected[1:], atol=1e-9, rtol=0)
    assert not table[0].any() and not table[:, 3:].any()


def board(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def test_distances_of_a_map_follow_its_inverse_depth() -> None:
    # Of a range of 4, half bright is 1 / (1 / 4 + 3 / 8) = 1.6 away, and the middle of the picture is 1.
    values = board([0.0, 0.5, 1.0], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0])
    found = depth_from_map(2 * values + 3)[0, 0]
    assert found[0].tolist() == pytest.approx([4 / 1.6, 1, 1 / 1.6]) and found[1].tolist() == pytest.approx([1, 1, 1])
    steep = depth_from_map(values, far_to_near=100.0)[0, 0]
    assert (steep[0, 0] / steep[0, 2]).item() == pytest.approx(100)
    assert torch.equal(scene_depth((3, 3), values), depth_from_map(values))


@pytest.mark.parametrize(("spread", "flat"), [(5e-4, True), (2e-3, False)])
def test_a_map_that_hardly_varies_is_a_flat_board(spread: float, flat: bool) -> None:
    values = board([0.5, 0.5, 0.5 + spread], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert torch.equal(depth_from_map(values), torch.ones(1, 1, 3, 3)) is flat


@pytest.mark.parametrize(("share", "counts"), [(0.4, False), (0.5, False), (0.6, True)])
def test_a_foreground_stands_at_its_median_distance(share: float, counts: bool) -> None:
    values = board([0.0, 0.5, 1.0], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0])
    foreground = board([share, 0.0, share], [0.0, 0.0, 0.0], [share, 0.0, 0.0])
    found = depth_from_map(values, foreground)[0, 0]
    # Distances 4, 4 and 1: the median is 4, and everything is measured by it.
    expected = [1, 1.6 / 4, 1] if counts else [4 / 1.6, 1, 1 / 1.6]
    assert found[0].tolist() == pytest.approx(expected)


def test_an_object_stands_on_a_plain_that_rises_to_the_horizon() -> None:
    mask = torch.zeros(1, 1, 10, 4)
    mask[..., 5:8, 1] = 0.6
    found = depth_from_foreground(mask)[0, 0]
    # The horizon is at 0.4 of the height. Row 7, at 0.75, is 7 / 12 of the way down: 1 / (1/4 + 3/4 * 7/12) away.
    feet = 1 / (1 / 4 + 3 / 4 * 7 / 12)
    rows = [4, 4, 4, 4, 1 / (1 / 4 + 3 / 4 / 12), 1 / (1 / 4 + 3 / 16), 1 / (1 / 4 + 5 / 16), feet]
    assert found[:8, 3].tolist() == pytest.approx([row / feet for row in rows])
    assert found[5:8, 1].tolist() == pytest.approx([1] * 3) and found[4, 1] == found[4, 3]


@pytest.mark.parametrize(
    ("known", "filled"),
    [
        ([[4.0, None], [None, None]], [[4, 4], [4, 4]]),
        ([[2.0, None], [None, 6.0]], [[2, 4], [4, 6]]),
        ([[2.0, None]], [[2, 2]]),
        ([[1.0, 2.0], [6.0, None]], [[1, 2], [6, 3]]),
        # A 4 x 4 with one corner known, and one with a column known.
        ([[8.0, *[None] * 3], *[[None] * 4] * 3], [[8] * 4] * 4),
        ([[8.0, None, None, None]] * 4, [[8] * 4] * 4),
        # Between 0 and 8 the slope of the means of 2 x 2 cells; a single row takes its mean.
        ([[0.0, None, None, 8.0]] * 4, [[0, 2, 6, 8]] * 4),
        ([[0.0, None, None, 8.0]], [[0, 4, 4, 8]]),
    ],
)
def test_holes_are_filled_from_the_cells_around(known: list, filled: list) -> None:
    values = torch.tensor([[99.0 if value is None else value for value in row] for row in known])[None, None]
    valid = torch.tensor([[float(value is not None) for value in row] for row in known])[None, None]
    torch.testing.assert_close(fill_holes(values, valid)[0, 0], torch.tensor(filled, dtype=torch.float32))


@pytest.mark.parametrize(("cells", "free"), [(-1, 1), (0, 1), (1, 9), (2, 25)])
def test_holes_grow_by_cells_on_every_side(cells: int, free: int) -> None:
    valid = torch.ones(1, 1, 9, 9)
    valid[..., 4, 4] = 0
    assert (1 - shrink(valid, cells)).sum() == free
