"""Edges of the controls that impose a signal: levels, holds and limits, hook by hook."""

import pytest
import torch

from svd_core.controls.signal import (
    CLOSE,
    SIGNAL_MODES,
    DualClock,
    PartialRenoise,
    ReplaceEstimate,
    Signal,
    levels_below,
)
from tests.helpers.runs import SCALE, SIDE, level, run_of, start_of

VALID = torch.ones(4, 1, SIDE, SIDE)
SIGNAL = Signal(level(3.0), VALID)


@pytest.mark.parametrize(
    ("sigmas", "sigma", "expected"),
    [
        ([100.0, 10.0, 1.0, 0.0], 50.0, [10.0, 1.0, 0.0]),
        ([100.0, 10.0, 1.0, 0.0], 100.0, [10.0, 1.0, 0.0]),
        ([100.0, 98.0, 10.0], 100.0, [10.0]),
        ([100.0, 97.0, 10.0], 100.0, [10.0]),
        ([100.0, 96.9, 10.0], 100.0, [96.9, 10.0]),
        ([100.0, 10.0], 5.0, [10.0]),  # the last level is always left
        ([100.0], 5.0, [100.0]),
    ],
)
def test_levels_close_below_the_start_are_left_out(sigmas: list, sigma: float, expected: list) -> None:
    assert levels_below(sigmas, sigma) == expected


def test_the_defaults_are_those_of_the_papers() -> None:
    assert PartialRenoise(SIGNAL).sigma == 30 and PartialRenoise(SIGNAL).strength == 1
    assert (DualClock(SIGNAL).sigma, DualClock(SIGNAL).sigma_weak) == (31, 75)
    replace = ReplaceEstimate(SIGNAL)
    assert (replace.sigma, replace.keep, replace.repeats, replace.last) == (8, 1, 1, 1)
    assert SIGNAL.first and set(SIGNAL_MODES.values()) == {PartialRenoise, DualClock, ReplaceEstimate}
    assert CLOSE == 0.97


@pytest.mark.parametrize(
    ("sigma", "weight"), [(1.1 * SCALE, 1.0), (1.0 * SCALE, 0.5), (0.9 * SCALE, 0.5), (100.0, 1.0), (0.0, 0.5)]
)
def test_frame_0_is_held_fully_above_its_sigma_and_by_half_below(sigma: float, weight: float) -> None:
    estimate = level(1.0)
    held = PartialRenoise(SIGNAL).edit_estimate(run_of(), estimate, sigma, estimate)
    torch.testing.assert_close(held[0], level(1 + weight * 2)[0])
    assert torch.equal(held[1:], estimate[1:]) and torch.equal(estimate, level(1.0))


def test_a_signal_without_the_start_picture_holds_nothing() -> None:
    estimate = level(1.0)
    control = PartialRenoise(Signal(level(3.0), VALID, first=False))
    assert control.edit_estimate(run_of(), estimate, 100.0, estimate) is estimate


@pytest.mark.parametrize(("sigma", "first"), [(160.0, 10.0), (700 / SCALE, 700.0), (900 / SCALE, 700.0)])
def test_partial_renoise_starts_at_its_scaled_sigma_at_most_at_the_first(sigma: float, first: float) -> None:
    run = run_of()
    x, levels = PartialRenoise(SIGNAL, sigma=sigma).begin(run, start_of(run))
    assert levels == [pytest.approx(first), *(s for s in run.sigmas if s < first * CLOSE)]
    torch.testing.assert_close(x, level(3.0) + run.noise * first)


@pytest.mark.parametrize(("end", "fits"), [(9.0, True), (10.0, False), (11.0, False)])
def test_a_start_must_be_above_the_end_of_the_schedule(end: float, fits: bool) -> None:
    run = run_of((700.0, 50.0, end))
    control = PartialRenoise(SIGNAL, sigma=160.0)  # starts at 10
    if fits:
        assert control.begin(run, start_of(run)).sigmas == [pytest.approx(10), 9.0]
    else:
        with pytest.raises(ValueError, match=rf"sigma 10, but the schedule ends at {end:g}; lower the strength"):
            control.begin(run, start_of(run))


@pytest.mark.parametrize(
    ("sigmas", "expected"),
    [
        # Starts at 50, releases at 5; the nearest inner level in the logarithm moves there.
        ((700.0, 40.0, 8.0, 2.0, 0.0), [50.0, 40.0, 5.0, 2.0, 0.0]),
        ((700.0, 40.0, 9.0, 3.0, 0.0), [50.0, 40.0, 9.0, 5.0, 0.0]),
        ((700.0, 30.0, 0.0), [50.0, 5.0, 0.0]),
        ((700.0, 6.0), [50.0, 6.0]),  # no inner level
        ((700.0, 30.0, 20.0, 6.0), [50.0, 30.0, 20.0, 6.0]),  # ends above the release
    ],
)
def test_dual_clock_moves_one_level_to_its_release(sigmas: tuple, expected: list) -> None:
    run = run_of(sigmas)
    control = DualClock(SIGNAL, sigma=5 / SCALE, sigma_weak=50 / SCALE)
    assert control.begin(run, start_of(run)).sigmas == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sigma", "valid", "held"),
    [
        (51.0, 0.0, True),
        (49.0, 0.0, False),
        (49.0, 0.5, True),
        (16.0, 0.5, True),  # sqrt(50 * 5) is 15.8
        (15.7, 0.5, False),
        (5.0, 1.0, True),  # a level that equals the release is held
        (4.9, 1.0, False),
    ],
)
def test_dual_clock_releases_cells_by_how_valid_they_are(sigma: float, valid: float, held: bool) -> None:
    control = DualClock(Signal(level(3.0), valid * VALID), sigma=5 / SCALE, sigma_weak=50 / SCALE)
    run, x = run_of(), level(-1.0)
    got = control.edit_state(run, x, sigma, None)
    torch.testing.assert_close(got, level(3.0) + run.noise * sigma if held else x)


@pytest.mark.parametrize(("low", "high", "taken"), [(1, 1, True), (2, 1, False), (0, 1, False), (1, 2, True)])
def test_dual_clock_needs_rising_positive_sigmas(low: float, high: float, taken: bool) -> None:
    if taken:
        DualClock(SIGNAL, 1.0, low, high)
    else:
        with pytest.raises(ValueError, match=rf"got {low} and {high}\); use 31 and 75"):
            DualClock(SIGNAL, 1.0, low, high)


@pytest.mark.parametrize(("sigma", "replaced"), [(8.1 * SCALE, True), (8 * SCALE, False), (7.9 * SCALE, False)])
def test_estimates_are_replaced_above_the_sigma_only(sigma: float, replaced: bool) -> None:
    estimate = level(1.0)
    got = ReplaceEstimate(SIGNAL).edit_estimate(run_of(), estimate, sigma, estimate)
    assert torch.equal(got[1:], level(3.0 if replaced else 1.0)[1:])


@pytest.mark.parametrize(
    ("repeats", "sigma", "evaluations"), [(1, 9.0, 0), (3, 9.0, 2), (3, 8 * SCALE, 0), (2, 0.0, 0)]
)
def test_repeats_evaluate_guided_levels_with_the_signal_first(repeats: int, sigma: float, evaluations: int) -> None:
    seen = []

    def denoise(x, level_):
        seen.append(x.clone())
        return x * 0

    control = ReplaceEstimate(Signal(level(3.0), VALID, first=False), repeats=repeats)
    x = level(1.0)
    got = control.edit_state(run_of(), x, sigma, denoise)
    assert len(seen) == evaluations
    if evaluations:
        # First the signal with fresh noise of 2, then the model's answer of 0 with fresh noise.
        torch.testing.assert_close(seen[1], level(3.0 + 2 * sigma))
        torch.testing.assert_close(got, level(2 * sigma))
        estimate = level(1.0)
        assert control.edit_estimate(run_of(), estimate, sigma, estimate) is estimate, "the last evaluation is free"
    else:
        assert got is x


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"keep": 1e-9}, True), ({"keep": 1.0}, True), ({"keep": 0.0}, False), ({"keep": 1.01}, False),
        ({"last": 1.0}, True), ({"last": 0.0}, False), ({"last": 1.5}, False),
        ({"repeats": 1}, True), ({"repeats": 10}, True), ({"repeats": 0}, False), ({"repeats": 11}, False),
    ],
)  # fmt: skip
def test_limits_of_replacement(given: dict, taken: bool) -> None:
    if taken:
        ReplaceEstimate(SIGNAL, **given)
    else:
        (value,) = given.values()
        with pytest.raises(ValueError, match=rf"got {value:g}\); use"):
            ReplaceEstimate(SIGNAL, **given)


@pytest.mark.parametrize(("share", "count"), [(0.26, 1), (0.5, 2), (0.76, 3)])
def test_the_closest_cells_are_counted_among_valid_ones(share: float, count: int) -> None:
    valid = torch.zeros(4, 1, SIDE, SIDE)
    valid[..., 0, :4] = 1.0
    estimate = level(0.0)
    estimate[:, :, 0, :4] = torch.tensor([3.0, 2.9, 2.0, 0.0])  # distances 0, 0.1, 1, 3 to the signal
    got = ReplaceEstimate(Signal(level(3.0), valid, first=False), keep=share).edit_estimate(
        run_of(), estimate, 99.0, estimate
    )
    assert [float(value) for value in got[1, 0, 0, :4]] == pytest.approx([3.0] * count + [3.0, 2.9, 2.0, 0.0][count:])
    assert torch.equal(got[:, :, 1:], estimate[:, :, 1:])


@pytest.mark.parametrize("shape", [(4, 1, SIDE, 5), (3, 1, SIDE, SIDE), (4, 2, SIDE, SIDE)])
def test_valid_cells_have_the_shape_of_the_latents(shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"give \[T, 4, h, w\]"):
        Signal(level(0.0), torch.ones(shape))


@pytest.mark.parametrize("shape", [(3, 4, SIDE, SIDE), (4, 4, SIDE, 8), (4, 4, 8, SIDE)])
def test_a_signal_of_another_clip_is_refused_in_pixels(shape: tuple) -> None:
    signal = Signal(torch.zeros(shape), torch.ones(shape[0], 1, *shape[2:]))
    with pytest.raises(ValueError, match=rf"{shape[0]} frames of {8 * shape[3]}x{8 * shape[2]} .* 4 of 48x48; make"):
        signal.on(run_of())
