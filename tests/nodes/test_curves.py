"""The drawings of curve nodes: they show the settings and depend on nothing else."""

import pytest
import torch

from tests.helpers.nodes_pack import run


def blue(image: torch.Tensor) -> torch.Tensor:
    """Where the line of a drawing [1, H, W, 3] is: [H, W]."""
    return image[0, ..., 2] - image[0, ..., 0] > 0.4


def height_of_line(image: torch.Tensor, share: float) -> float:
    """Mean row of the line at a share of the way from the first to the last column that it has."""
    line = blue(image)
    columns = line.any(0).nonzero().flatten()
    column = columns[round(share * (len(columns) - 1))]
    return float(line[:, column].nonzero().float().mean())


@pytest.mark.parametrize(
    ("node", "place", "given"),
    [
        ("SVDReelSchedule", 1, {}),
        ("SVDReelSchedule", 1, {"kind": "align_your_steps", "steps": 10}),
        ("SVDReelSchedule", 1, {"steps": 1}),
        ("SVDReelSchedule", 1, {"kind": "custom", "sigmas": "20, 5, 0.5"}),
        ("SVDReelMotionAmount", 1, {}),
        ("SVDReelMotionAmount", 1, {"preset": "lively"}),
        ("SVDReelMotionAmount", 1, {"bucket_curve": "60", "fps_curve": "0:12, 1:6"}),
        ("SVDReelGuidance", 1, {}),
        ("SVDReelGuidance", 1, {"shape": "custom", "points": "1, 3"}),
    ],
)
def test_a_curve_is_an_image_of_one_page(node, place, given):
    image = run(node, **given)[place]
    assert image.ndim == 4 and image.shape[0] == 1 and image.shape[2:] == (640, 3)
    assert float(image.min()) >= 0 and float(image.max()) <= 1


def test_a_schedule_is_drawn_falling_and_with_a_dot_for_each_step():
    image = run("SVDReelSchedule", steps=10)[1]
    rows = [height_of_line(image, share) for share in (0.05, 0.3, 0.6, 0.95)]
    assert rows == sorted(rows) and rows[0] + 50 < rows[-1]
    few, many = (int(blue(run("SVDReelSchedule", steps=steps)[1]).sum()) for steps in (5, 20))
    assert many > few


def test_a_bucket_curve_is_drawn_as_it_runs_over_the_clip():
    image = run("SVDReelMotionAmount", bucket_curve="0:60, 0.5:180, 1:127")[1]
    first, middle, last = (height_of_line(image, share) for share in (0.02, 0.5, 0.98))
    assert middle < last < first  # rows count downwards


def test_a_control_that_does_nothing_draws_no_curve():
    assert not bool(blue(run("SVDReelMotionAmount")[1]).any())


def test_a_preset_is_drawn_in_place_of_the_widgets():
    preset = run("SVDReelMotionAmount", preset="lively")[1]
    assert torch.equal(preset, run("SVDReelMotionAmount", preset="lively", bucket_curve="0:60, 1:10")[1])
    assert not torch.equal(preset, run("SVDReelMotionAmount", preset="calm")[1])
