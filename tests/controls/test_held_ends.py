"""Held frames, end pictures and joins of loops by numbers, hook by hook."""

import math
from types import SimpleNamespace

import pytest
import torch

from svd_core.controls.between import Blend, TakeTurns, inbetween_control
from svd_core.controls.extend import Extension, HoldFrames
from svd_core.controls.kept_ends import KeptEnds
from svd_core.controls.loop import EvenJoin, LatentRoll, roll_stride
from svd_core.controls.windows import WEIGHTS, Windows
from tests.helpers.runs import SCALE, level, run_of, start_of


def values(frames: torch.Tensor) -> list[float]:
    """The value of each frame; frames are plain."""
    assert torch.equal(frames, frames[:, :1, :1, :1].expand_as(frames))
    return frames[:, 0, 0, 0].tolist()


def test_held_frames_start_from_their_noised_latents() -> None:
    run = run_of()
    x, sigmas = HoldFrames(level(3.0, 2)).begin(run, start_of(run))
    assert values(x) == pytest.approx([703, 703, *[(1 + 700**2) ** 0.5] * 2]) and sigmas == list(run.sigmas)


@pytest.mark.parametrize(
    ("known", "sigma", "held"),
    [
        (3, 31, 3), (3, 30, 2), (3, 29, 2), (3, 3.1, 2), (3, 2.9, 1), (3, 0.31, 1), (3, 0.29, 0),
        (1, 0.31, 1), (1, 0.29, 0), (4, 31, 4),
    ],
)  # fmt: skip
def test_the_first_frame_is_held_longest_and_the_last_shortest(known: int, sigma: float, held: int) -> None:
    # Three frames are released at 0.3, 3 and 30, times the scale of the clip.
    found = HoldFrames(level(5.0, known)).edit_estimate(run_of(), level(0.0), sigma * SCALE, level(1.0))
    assert values(found) == [5.0] * held + [1.0] * (4 - held)


@pytest.mark.parametrize(
    ("repeats", "sigma", "evaluations"),
    [(3, 4.001, 2), (3, 10, 2), (3, 39.99, 2), (3, 3.99, 0), (3, 40.1, 0), (2, 10, 1), (1, 10, 0)],
)
def test_levels_from_4_to_40_are_evaluated_again(repeats: int, sigma: float, evaluations: int) -> None:
    seen = []

    def denoise(x, sigma):
        seen.append((values(x), sigma))
        return x * 0

    sigma *= SCALE
    x = HoldFrames(level(5.0, 1), repeats=repeats).edit_state(run_of(), level(1.0), sigma, denoise)
    assert len(seen) == evaluations and all(at == sigma for _, at in seen)
    again = [5 + 2 * sigma, *[2 * sigma] * 3]  # the held frame and the answer of 0, each with fresh noise of 2
    assert values(x) == pytest.approx(again if evaluations else [1.0] * 4)
    if evaluations == 2:
        assert seen[0][0] == [1.0] * 4 and seen[1][0] == pytest.approx(again)


@pytest.mark.parametrize(("shape", "fits"), [((4, 4, 6, 6), True), ((5, 4, 6, 6), False), ((1, 4, 6, 5), False)])
def test_held_frames_are_of_the_clip(shape: tuple, fits: bool) -> None:
    run = run_of()
    if fits:
        HoldFrames(torch.zeros(shape)).begin(run, start_of(run))
    else:
        with pytest.raises(ValueError, match="hold fewer frames"):
            HoldFrames(torch.zeros(shape)).begin(run, start_of(run))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"overlap": 1}, True), ({"overlap": 7}, True), ({"overlap": 8}, False), ({"overlap": 0}, False),
        ({"hold": 0.0}, True), ({"hold": 30.0}, True), ({"hold": 30.1}, False), ({"hold": -0.1}, False),
        ({"release": math.inf}, False), ({"release": 1e9}, True),
        ({"repeats": 1}, True), ({"repeats": 10}, True), ({"repeats": 0}, False), ({"repeats": 11}, False),
        ({"anchor": 0.0}, True), ({"anchor": 1.0}, True), ({"anchor": 1.01}, False),
        ({"detail": 1.0}, True), ({"detail": -0.01}, False), ({"colour_lock": 1.01}, False),
    ],
)  # fmt: skip
def test_limits_of_an_extension(given: dict, taken: bool) -> None:
    if taken:
        Extension(8, **given)
    else:
        with pytest.raises(ValueError, match="; use"):
            Extension(8, **given)


@pytest.mark.parametrize(("new", "chunks"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_an_extension_takes_as_many_chunks_as_fit_beside_the_overlap(new: int, chunks: int) -> None:
    assert Extension(8, 3).chunks(new) == chunks


def test_an_extension_by_default() -> None:
    usual = Extension(14)
    assert (usual.overlap, usual.anchor, usual.colour_lock, usual.detail) == (4, 0.5, 0.9, 0)
    assert (usual.hold, usual.release, usual.repeats) == (0.3, 30, 1)
    look = usual.look()
    assert (look.frames, look.strength, look.ramp) == (14, 0.9, 4)


def inbetween(kind: type = TakeTurns, **rest):
    return kind(SimpleNamespace(), level(3.0, 1), level(9.0, 1), **rest)


@pytest.mark.parametrize(
    ("given", "sigma", "expected"),
    [
        ({}, 700, [3, 0, 4, 9]),
        ({}, 1e-6, [3, 0, 4, 9]),
        # At half strength the ends are free from sqrt(700 * 0.05 * scale) = 1.479 on.
        ({"strength": 0.5}, 1.5, [3, 0, 4, 9]),
        ({"strength": 0.5}, 1.45, [2, 0, 4, 6]),
        # The ends of a loop become their mean at 16 times the scale.
        ({"tied": True}, 1.01, [3, 0, 4, 9]),
        ({"tied": True}, 1.0, [4, 0, 4, 4]),
        ({"tied": True}, 0.5, [4, 0, 4, 4]),
    ],
)
def test_both_ends_are_held(given: dict, sigma: float, expected: list) -> None:
    estimate = level(1.0) * torch.tensor([2.0, 0.0, 4.0, 6.0]).reshape(-1, 1, 1, 1)
    assert values(inbetween(**given).edit_estimate(run_of(), level(0.0), sigma, estimate)) == expected


@pytest.mark.parametrize(
    ("tied", "sigma", "shown"),
    [(False, 10.0, [0, 1, 1, 1]), (True, 10.0, [0, 1, 1, 1]), (False, 0.05 * SCALE, [0] * 4), (False, 0.0, [0] * 4)],
)
def test_a_step_is_repeated_from_the_end(tied: bool, sigma: float, shown: list) -> None:
    asked = []

    def denoise(x, sigma, inputs, *, edited):
        asked.append((values(x), sigma, inputs.backward, edited))
        return level(8.0)

    run = run_of(levels=(700.0, 100.0, 10.0, 0.05 * SCALE, 0.0))
    found = values(inbetween(tied=tied).edit_state(run, level(1.0), sigma, denoise))
    noised = 1 + 2 * math.sqrt(100**2 - 10**2)  # from 10 back to 100, with fresh noise of 2
    repeated = 8 + (noised - 8) * 10 / 100
    assert found == pytest.approx([repeated if turned else 1.0 for turned in shown])
    assert asked == ([(pytest.approx([noised] * 4), 100.0, True, True)] if any(shown) else [])


@pytest.mark.parametrize(
    ("kind", "tied", "shares"),
    [
        (Blend, False, [0, 0.25, 0.5, 0.75, 1]),
        (TakeTurns, False, [0, 0.5, 1, 1, 1]),
        # Over the middle half of a loop.
        (Blend, True, [0, 0, 0.5, 1, 1]),
        (TakeTurns, True, [0, 0, 0.5, 1, 1]),
    ],
)
def test_weights_of_the_view_from_the_end(kind: type, tied: bool, shares: list) -> None:
    assert values(inbetween(kind, tied=tied)._shares(level(0.0, 5))) == shares


def test_an_eased_blend_changes_slowly_near_the_ends_and_meets_in_the_middle() -> None:
    eased = values(inbetween(Blend, ease=1.0)._shares(level(0.0, 5)))
    assert eased == pytest.approx([0, 3 / 16 - 2 / 64, 0.5, 1 - (3 / 16 - 2 / 64), 1])
    half = values(inbetween(Blend, ease=0.5)._shares(level(0.0, 5)))
    assert half == pytest.approx([(a + b) / 2 for a, b in zip(eased, [0, 0.25, 0.5, 0.75, 1], strict=True)])
    assert values(inbetween(Blend, tied=True, ease=1.0)._shares(level(0.0, 5))) == [0, 0, 0.5, 1, 1]
    with pytest.raises(ValueError, match=r"between 0 and 1 \(got 1.5\)"):
        inbetween(Blend, ease=1.5)


@pytest.mark.parametrize(("frames", "fits"), [(2, False), (3, True)])
def test_a_clip_between_pictures_has_three_frames(frames: int, fits: bool) -> None:
    run = run_of(frames=frames)
    if fits:
        assert inbetween().begin(run, "start") == "start"
    else:
        with pytest.raises(ValueError, match="got 2"):
            inbetween().begin(run, "start")


def test_modes_in_between_by_default() -> None:
    control = inbetween_control("blend", "end", level(3.0, 1), level(9.0, 1))
    assert (type(control), control.end, control.strength, control.sigma, control.tied) == (Blend, "end", 1, 0.05, False)


@pytest.mark.parametrize(
    ("frames", "stride"),
    [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (8, 5), (9, 5), (13, 7), (14, 9), (16, 9), (24, 13), (25, 13)],
)
def test_a_clip_rolls_by_just_over_half_of_it(frames: int, stride: int) -> None:
    assert roll_stride(frames) == stride


@pytest.mark.parametrize(("sigma", "rolls"), [(0.31, True), (0.3, False), (0.29, False)])
def test_a_clip_rolls_above_its_sigma(sigma: float, rolls: bool) -> None:
    firsts = []

    def evaluate(x, sigma, inputs):
        firsts.append(values(x)[0])
        return x

    roll, x = LatentRoll().wrap(run_of(), evaluate), level(1.0) * torch.arange(4.0).reshape(-1, 1, 1, 1)
    for _ in range(4):
        assert torch.equal(roll(x, sigma * SCALE, run_of().inputs), x)
    assert firsts == ([0, 3, 2, 1] if rolls else [0] * 4)


def grey(*levels: float) -> torch.Tensor:
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 4, 4, 3).contiguous()


@pytest.mark.parametrize(
    ("levels", "limit", "first"),
    [
        # Steps of 0.1 but for those at frame 0: it comes as close as 1.4 steps.
        ((0.5, 0.1, 0.2, 0.3, 0.2, 0.1), 1.4, 0.24),
        ((0.5, 0.1, 0.2, 0.3, 0.2, 0.1), 2.0, 0.3),
        ((0.5, 0.1, 0.2, 0.3, 0.2, 0.1), 1.0, 0.2),
        ((0.24, 0.1, 0.2, 0.3, 0.2, 0.1), 1.4, 0.24),
        # At most 0.8 of the way.
        ((0.9, 0.1, 0.2, 0.3, 0.2, 0.1), 1.4, 0.26),
        # To the mean of both neighbours; the step to the last is the larger one.
        ((0.5, 0.2, 0.3, 0.2, 0.3, 0.2, 0.1), 1.4, 0.24),
    ],
)
def test_the_first_frame_of_a_loop_is_eased_to_the_limit(levels: tuple, limit: float, first: float) -> None:
    eased = EvenJoin(limit).edit_frames(grey(*levels))
    assert values(eased) == pytest.approx([first, *levels[1:]], abs=1e-5)


@pytest.mark.parametrize(
    ("levels", "place", "picture", "closed", "shown"),
    [
        # Steps of 0.1: a picture may be 0.18 from the frames beside it.
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0, 0.05, False, 0.05),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0, 0.0, False, 0.02),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 4, 1.0, False, 0.58),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 2, 0.37, False, 0.37),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 2, 0.5, False, 0.38),
        # A step that is larger already does not grow.
        ((0.1, 0.5, 0.6, 0.7, 0.8), 0, 0.05, False, 0.1),
        ((0.1, 0.5, 0.6, 0.7, 0.8), 0, 0.2, False, 0.2),
        # In a loop the last frame is beside the first.
        ((0.1, 0.2, 0.3, 0.15), 0, 0.35, False, 0.35),
        ((0.2, 0.3, 0.2, 0.1), 3, 0.0, True, 0.02),
    ],
)
def test_a_picture_is_shown_as_far_as_no_step_grows(levels, place, picture, closed, shown) -> None:
    control = KeptEnds(torch.full((1, 3, 4, 4), picture), (place,), len(levels), closed=closed)
    expected = list(levels)
    expected[place] = shown
    assert values(control.edit_frames(grey(*levels))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("strength", "shown"), [(1.0, 0.02), (0.5, 0.06), (0.25, 0.08)])
def test_strength_is_a_share_of_what_is_possible(strength: float, shown: float) -> None:
    control = KeptEnds(torch.zeros(1, 3, 4, 4), (0,), 5, strength)
    assert values(control.edit_frames(grey(0.1, 0.2, 0.3, 0.4, 0.5)))[0] == pytest.approx(shown, abs=1e-5)


@pytest.mark.parametrize(
    ("frames", "closed", "changed"),
    [(3, False, False), (4, False, True), (5, False, True), (3, True, False), (4, True, True), (5, True, False)],
)
def test_pictures_belong_to_a_clip_of_their_length(frames: int, closed: bool, changed: bool) -> None:
    control = KeptEnds(torch.full((1, 3, 4, 4), 0.15), (0,), 4, closed=closed)
    clip = grey(*(0.1 + 0.1 * t for t in range(frames)))
    assert torch.equal(control.edit_frames(clip), clip) is not changed


@pytest.mark.parametrize(("exponent", "offset"), [(0, 0), (1, 1), (2, 3), (3, 5), (-1, 8), (-2, 6)])
def test_windows_move_by_the_golden_ratio(exponent: int, offset: int) -> None:
    # 6.18 cycles for each factor of e: the fraction of 6.18 * exponent, of the stride of 10 frames.
    assert Windows(14, 4).offset(math.exp(exponent)) == offset


@pytest.mark.parametrize(
    ("name", "size", "overlap", "weights"),
    [
        ("pyramid", 5, 2, [1, 2, 3, 2, 1]),
        ("pyramid", 4, 2, [1, 2, 2, 1]),
        ("linear", 8, 3, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("linear", 3, 0, [1, 1, 1]),
    ],
)
def test_weights_inside_a_window(name: str, size: int, overlap: int, weights: list) -> None:
    assert WEIGHTS[name](size, overlap).tolist() == weights


@pytest.mark.parametrize(
    ("frames", "size", "overlap", "starts", "passes"),
    [
        (10, 4, 1, [0, 3, 6], 4), (11, 4, 1, [0, 3, 6, 7], 4), (5, 4, 0, [0, 1], 2), (4, 4, 1, [0], 1),
    ],
)  # fmt: skip
def test_windows_begin_a_stride_apart_and_end_with_the_clip(frames, size, overlap, starts, passes) -> None:
    windows = Windows(size, overlap)
    assert windows.starts(frames) == starts and windows.passes(frames) == passes
