"""What strength means for a noise level, and the limits of numbers that controls share."""

import math

import pytest

from svd_core.controls.strength import check_share, check_sigma, check_strength, release_level
from tests.helpers.runs import SCALE, run_of


@pytest.mark.parametrize(
    ("sigma", "strength", "expected"),
    [
        (160.0, 0.0, 700.0),
        (160.0, 1.0, 10.0),
        (160.0, 0.5, math.sqrt(7000)),
        (160.0, 2.0, 10.0 * 10.0 / 700.0),
        (700 / SCALE, 1.0, 700.0),
        (900 / SCALE, 1.0, 700.0),  # no level is above the first
        (900 / SCALE, 2.0, 700.0),
    ],
)
def test_strength_moves_a_level_in_even_steps_of_its_logarithm(sigma: float, strength: float, expected: float) -> None:
    assert release_level(run_of(), sigma, strength) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.5, 1e9])
def test_strengths_of_zero_and_above_are_taken(value: float) -> None:
    check_strength(value)


@pytest.mark.parametrize("value", [-1e-9, math.inf, math.nan, -math.inf])
def test_other_strengths_are_refused_with_the_remedy(value: float) -> None:
    with pytest.raises(ValueError, match=rf"0 or above \(got {value:g}\); turn it up"):
        check_strength(value, "turn it up")
    with pytest.raises(ValueError, match="use 1, or 0"):
        check_strength(value)


@pytest.mark.parametrize(
    ("value", "taken"), [(0.0, True), (1.0, True), (-1e-9, False), (1 + 1e-9, False), (math.nan, False)]
)
def test_shares_are_from_zero_to_one(value: float, taken: bool) -> None:
    if taken:
        check_share("the share", value, "use 0.5")
    else:
        with pytest.raises(ValueError, match=r"the share must be between 0 and 1 \(got .*\); use 0.5"):
            check_share("the share", value, "use 0.5")


@pytest.mark.parametrize(
    ("value", "taken"), [(1e-9, True), (700.0, True), (0.0, False), (-1.0, False), (math.inf, False)]
)
def test_sigmas_are_finite_and_above_zero(value: float, taken: bool) -> None:
    if taken:
        check_sigma("the sigma", value, "use 1")
    else:
        with pytest.raises(ValueError, match=r"the sigma must be above 0 \(got .*\); use 1"):
            check_sigma("the sigma", value, "use 1")
