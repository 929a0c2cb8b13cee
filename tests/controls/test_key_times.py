"""Camera paths through points at given times."""

import pytest
import torch

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.poses import PARAMETERS

PAN = PARAMETERS.index("pan")


def test_points_are_reached_at_their_times() -> None:
    rows = parse_path("through 0 0; 0.1 0 at 40%; 0.2 0.1").table(11)
    even = parse_path("through 0 0; 0.1 0; 0.2 0.1").table(11)
    assert torch.allclose(rows[4], even[5])
    assert torch.allclose(rows[10], even[10])


def test_times_may_be_shares_and_missing_ones_are_spread_evenly() -> None:
    shares = parse_path("through 0 0; 0.1 0 at 0.2; 0.2 0; 0.3 0 at 0.6; 0.4 0").table(11)
    written = parse_path("through 0 0 at 0%; 0.1 0 at 20%; 0.2 0 at 40%; 0.3 0 at 60%; 0.4 0 at 100%").table(11)
    assert torch.equal(shares, written)


def test_a_pause_between_equal_points_stands_still() -> None:
    pan = parse_path("through 0 0; 0.2 0 at 30%; 0.2 0 at 70%; 0.1 0").table(21)[:, PAN]
    assert torch.allclose(pan[6:15], pan[6].expand(9))
    assert float(pan.max()) == pytest.approx(float(pan[6]))


def test_the_camera_waits_before_the_first_and_after_the_last_time() -> None:
    pan = parse_path("through 0 0 at 50%; 0.2 0 at 75%").table(9)[:, PAN]
    assert pan[:5].abs().max() == 0
    assert torch.allclose(pan[6:], pan[6].expand(3))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("through 0 0; 1 1 at 40%; 0 0 at 30%", "30 %.*40%"),
        ("through 0 0; 1 1 at 140%", "140 %.*0 to 100 %"),
        ("through 0 0; 1 1 at soon", "soon.*number"),
    ],
)
def test_times_that_do_not_rise_are_refused(text: str, number: str) -> None:
    with pytest.raises(ValueError, match=number):
        parse_path(text)
