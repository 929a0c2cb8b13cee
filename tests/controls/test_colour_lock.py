"""The colour lock by numbers: what gain and offset each correction gives a clip whose statistics are known."""

import pytest
import torch

from svd_core.controls.colour_lock import Look, LookLock, keep_detail, lock_colour, look_of, match_overlap

# Cells of +1 and -1 in turn: mean 0, spread 1; the mean of a cell and its eight neighbours is a ninth of the cell.
BOARD = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).mul(-2.0).add(1).expand(1, 4, 8, 8)


def clip(means: list[float], contrast: float = 1.0) -> torch.Tensor:
    """A frame for each mean: [T, 4, 8, 8]."""
    return contrast * BOARD + torch.tensor(means).reshape(-1, 1, 1, 1)


def anchor(mean: float, spread: float = 1.0) -> Look:
    return Look(*(torch.full((4,), value, dtype=torch.float64) for value in (mean, spread, 1.0)))


def means(frames: torch.Tensor) -> list[float]:
    return frames.mean((1, 2, 3)).tolist()


@pytest.mark.parametrize(("mean", "contrast"), [(3.0, 1.0), (-0.5, 2.0), (0.0, 0.25)])
def test_a_look_is_mean_deviation_and_what_a_blur_takes_away(mean: float, contrast: float) -> None:
    look = look_of(clip([mean], contrast))
    assert [part.shape for part in look] == [(1, 4)] * 3
    assert look.mean[0].tolist() == pytest.approx([mean] * 4) and look.spread[0].tolist() == pytest.approx(
        [contrast] * 4
    )
    # The blur leaves 1 / 9 inside. On the edges, which are repeated, it leaves -1 / 9, in the corners 1 / 9.
    away = (36 * (8 / 9) ** 2 + 24 * (10 / 9) ** 2 + 4 * (8 / 9) ** 2) / 64
    assert look.detail[0].tolist() == pytest.approx([contrast * away**0.5] * 4)


@pytest.mark.parametrize(
    ("own", "locked"),
    [
        ([0, 0, 0, 0], [10, 10, 10, 10]),
        ([0, 1, 2, 3], [10, 10, 10, 10]),  # a line is removed
        ([0, 1, 2], [9, 10, 11]),  # of three frames only the mean
        ([5, 7], [9, 11]),
        ([0, 0, 5, 0, 0], [9, 9, 14, 9, 9]),  # one bright frame stays brighter
        ([-2, -1, 1, 2, 5], [10.4, 9.7, 10.0, 9.3, 10.6]),  # 1.7 a frame about the mean of 1
    ],
)
def test_later_frames_lose_their_drift_and_keep_the_rest(own: list, locked: list) -> None:
    assert means(lock_colour(clip(own), anchor(10.0), 1.0, 0)) == pytest.approx(locked, abs=1e-4)


@pytest.mark.parametrize(
    ("strength", "ramp", "expected"),
    [
        (1.0, 0, [10, 10, 10, 10, 10]),
        (0.5, 0, [5, 5, 5, 5, 5]),
        (1.0, 1, [5, 10, 10, 10, 10]),
        (0.5, 3, [1.25, 2.5, 3.75, 5, 5]),
        (1.0, 9, [1, 2, 3, 4, 5]),
    ],
)
def test_the_lock_is_reached_over_the_ramp(strength: float, ramp: int, expected: list) -> None:
    assert means(lock_colour(clip([0.0] * 5), anchor(10.0), strength, ramp)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("contrast", "strength", "locked"),
    [
        (1.0, 1.0, 1.0),
        (0.9, 1.0, 1.0),
        (1.1, 1.0, 1.0),
        (0.5, 1.0, 0.625),  # at most 1.25 times as much
        (2.0, 1.0, 1.6),  # at least 0.8 times
        (0.64, 0.5, 0.64 * 1.25**0.5),
        (1.21, 0.5, 1.1),
    ],
)
def test_contrast_returns_by_a_limited_gain(contrast: float, strength: float, locked: float) -> None:
    found = lock_colour(clip([3.0] * 4, contrast), anchor(3.0), strength, 0)
    torch.testing.assert_close(found, clip([3.0] * 4, locked))


def test_no_frames_and_no_strength_are_left_alone() -> None:
    frames = clip([1.0, 2.0])
    for change in (lock_colour, keep_detail):
        assert change(frames, anchor(9.0), 0.0, 2) is frames
        assert len(change(frames[:0], anchor(9.0), 1.0, 2)) == 0


@pytest.mark.parametrize(
    ("wanted", "strength", "gain"),
    [(1.0, 1.0, 1.0), (1.2, 1.0, 1.2), (1.2, 0.5, 1.2**0.5), (3.0, 1.0, 1.4), (0.5, 1.0, 1.0)],
)
def test_detail_is_raised_by_a_limited_gain_and_never_lowered(wanted: float, strength: float, gain: float) -> None:
    frames = clip([2.0, 2.0])
    first = look_of(frames)
    raised = keep_detail(frames, Look(first.mean[0], first.spread[0], wanted * first.detail[0]), strength, 0)
    # Inside, a cell of 1 is 1 / 9 of blur and 8 / 9 of detail.
    assert raised[1, 0, 4, 4].item() == pytest.approx(2 + 1 / 9 + gain * 8 / 9)
    assert raised[0, 3, 3, 4].item() == pytest.approx(2 - 1 / 9 - gain * 8 / 9)


@pytest.mark.parametrize(
    ("contrast", "offset", "strength", "gain"),
    [
        (1.0, 0.0, 1.0, 1.0),
        (1.05, 4.0, 1.0, 1.06 / 1.01),  # a hundredth of the variance pulls the gain to 1
        (0.95, -4.0, 1.0, 0.96 / 1.01),
        (1.05, 4.0, 0.5, 1 + 0.5 * 0.05 / 1.01),
        (3.0, 1.0, 1.0, 1.1),
        (0.2, 1.0, 1.0, 0.9),
        (-1.0, 1.0, 1.0, 0.9),
        (1.05, 4.0, 0.0, 1.0),
    ],
)
def test_the_overlap_gives_gain_and_offset_to_the_whole_chunk(contrast, offset, strength, gain) -> None:
    chunk, known = clip([1.0, 1.0, 1.0, 6.0]), clip([1.0 + offset] * 2, contrast)
    matched = match_overlap(chunk, known, strength)
    # The mean of the overlap moves by the offset; the last frame, 5 brighter, keeps its distance times the gain.
    expected = clip([1 + strength * offset] * 3 + [1 + strength * offset + 5 * gain], gain)
    torch.testing.assert_close(matched, expected, atol=1e-5, rtol=0)


def grey(*levels: float, contrast: tuple[float, ...] = ()) -> torch.Tensor:
    """Frames [T, 4, 4, 3] of grey, whose left and right halves are lighter and darker by the contrast."""
    side = torch.tensor([1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 4, 1)
    spread = torch.tensor(contrast or [0.0] * len(levels)).reshape(-1, 1, 1, 1)
    return torch.tensor(levels).reshape(-1, 1, 1, 1) + (spread * side).expand(-1, 4, -1, 3)


@pytest.mark.parametrize(
    ("strength", "ramp", "expected"),
    [
        (1.0, 0, [0.4, 0.4, 0.4]),
        (0.5, 0, [0.45, 0.5, 0.55]),
        # Means over a neighbour on each side: 0.5, 0.6, and 0.7 alone at the end.
        (1.0, 1, [0.45, 0.4, 0.4]),
        (0.5, 1, [0.475, 0.5, 0.55]),
    ],
)
def test_decoded_frames_return_to_the_mean_of_the_first_clip(strength: float, ramp: int, expected: list) -> None:
    frames = grey(0.3, 0.5, 0.5, 0.6, 0.7) if ramp == 0 else grey(0.4, 0.4, 0.5, 0.6, 0.7)
    locked = LookLock(2, strength, ramp).edit_frames(frames)
    assert torch.equal(locked[:2], frames[:2])
    assert locked[2:].mean((1, 2, 3)).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("contrast", "strength", "locked"),
    [(0.12, 1.0, 0.1), (0.2, 1.0, 0.16), (0.05, 1.0, 0.0625), (0.12, 0.5, 0.12 * (1 / 1.2) ** 0.5), (0.1, 1.0, 0.1)],
)
def test_decoded_frames_return_to_the_contrast_of_the_first_clip(contrast, strength, locked) -> None:
    frames = grey(0.4, 0.4, contrast=(0.1, contrast))
    torch.testing.assert_close(LookLock(1, strength, 0).edit_frames(frames)[1:], grey(0.4, contrast=(locked,)))


def test_frames_without_contrast_stay_plain_and_bright_ones_stay_in_range() -> None:
    locked = LookLock(1, 1.0, 0).edit_frames(grey(0.4, 0.6, contrast=(0.1, 0.0)))
    torch.testing.assert_close(locked[1:], grey(0.4))
    light = LookLock(1, 1.0, 0).edit_frames(grey(0.95, 0.5, contrast=(0.05, 0.3)))
    assert light[1].max() == 1 and light[1].min().item() == pytest.approx(0.95 - 0.8 * 0.3)


@pytest.mark.parametrize(("frames", "ramp", "taken"), [(1, 0, True), (0, 0, False), (1, -1, False), (8, 4, True)])
def test_limits_of_a_lock(frames: int, ramp: int, taken: bool) -> None:
    if taken:
        assert LookLock(frames, ramp=ramp).active and LookLock(frames, ramp=ramp).edits_frames
    else:
        with pytest.raises(ValueError, match=rf"got {frames} and {ramp}\); pass"):
            LookLock(frames, ramp=ramp)
