"""Edits of decoded frames at the ends of a clip: restored pictures, and loops with an eased join."""

import logging

import pytest
import torch

from svd_core.controls.kept_ends import LARGEST_STEP, KeptEnds, keep_ends
from svd_core.controls.loop import JOIN_LIMIT, EvenJoin
from svd_core.pipelines.between import end_controls
from svd_core.sampling.controls import finish_frames

FRAMES, SIDE = 9, 32


def sliding(step=0.05, frames=FRAMES, returning=False):
    """Frames [T, H, W, 3] of a wave that slides evenly, or there and back."""
    x = torch.linspace(0, 6, SIDE)
    time = torch.arange(frames).float()
    time = torch.minimum(time, frames - time) if returning else time
    rows = 0.5 + 0.4 * torch.sin(x[None] + step * 6 * time[:, None])
    return rows[:, None, :, None].expand(-1, SIDE, -1, 3).contiguous()


def softened(clip, amount=0.06):
    """The clip as a coarse autoencoder would show it, and the pictures at its ends as they are."""
    detail = amount * torch.randn(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    return clip, (clip + detail)[[0, -1]].movedim(-1, 1)


def steps_of(clip, closed=False):
    following = clip.roll(-1, 0)
    steps = (following - clip).abs().mean((1, 2, 3))
    return steps if closed else steps[:-1]


@pytest.mark.parametrize("amount", [0.0, 0.005, 0.15, 0.3])
def test_ends_come_to_the_pictures_as_far_as_there_is_no_jump(amount):
    clip, pictures = softened(sliding(), amount)
    kept = KeptEnds(pictures, (0, FRAMES - 1), FRAMES).edit_frames(clip)
    steps = steps_of(kept)
    assert steps.max() <= 1.001 * LARGEST_STEP * torch.maximum(steps_of(clip).median(), steps.median())
    for frame, before, picture in zip(kept[[0, -1]], clip[[0, -1]], pictures.movedim(1, -1), strict=True):
        left, was = ((one - picture).abs().mean() for one in (frame, before))
        assert left <= 0.9 * was or was == 0
        assert (left == 0) == (amount < 0.1)


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_strength_is_the_share_of_the_way_and_zero_bit_equal(strength):
    clip, pictures = softened(sliding(), 0.01)
    kept = finish_frames(clip, [KeptEnds(pictures, (0, FRAMES - 1), FRAMES, strength)])
    expected = torch.lerp(clip[0], pictures[0].movedim(0, -1), strength)
    torch.testing.assert_close(kept[0], expected, atol=1e-6, rtol=0)
    assert torch.equal(kept, clip) == (strength == 0)


@pytest.mark.parametrize(
    ("count", "closed", "places", "length"),
    [(2, False, (0, 8), 9), (3, False, (0, 8, 16), 17), (2, True, (0, 8), 16), (3, True, (0, 8, 16), 24)],
)
def test_every_picture_of_a_chain_has_its_frame(count, closed, places, length):
    (control,) = keep_ends(torch.zeros(count, 3, 8, 8), FRAMES, closed=closed)
    assert control.places == places and control.frames == length and control.closed == closed
    frames = torch.rand(length, 8, 8, 3)
    edited = control.edit_frames(frames)
    assert all(not torch.equal(edited[k], frames[k]) for k in places)


def test_lost_detail_is_carried_along_the_motion_and_fades_over_the_frames():
    clip = sliding(0.02)
    stripes = 0.05 * torch.where(torch.arange(SIDE) % 2 == 0, 1.0, -1.0)[:, None, None].expand(SIDE, SIDE, 3)
    pictures = torch.stack([clip[0] + stripes, clip[-1]]).movedim(-1, 1)
    kept = KeptEnds(pictures, (0, FRAMES - 1), FRAMES).edit_frames(clip)
    shares = [float(((kept[k] - clip[k]) * stripes).sum() / (stripes * stripes).sum()) for k in range(FRAMES)]
    assert shares[0] == pytest.approx(1, abs=1e-4) and abs(shares[-1]) < 1e-4
    assert all(a > b for a, b in zip(shares, shares[1:], strict=False)) and shares[1] > 0.5
    other = clip.clone()
    other[1:-1] = torch.rand(FRAMES - 2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(4))
    kept = KeptEnds(pictures, (0, FRAMES - 1), FRAMES).edit_frames(other)
    assert (kept[1:-1] - other[1:-1]).abs().mean() < 0.005, "frames of another scene get none of it"


def test_nothing_is_kept_where_the_ends_are_met_roughly_or_not_at_all():
    pictures = torch.zeros(2, 3, 8, 8)
    assert end_controls(pictures, FRAMES, strength=0.5) == () and end_controls(pictures, FRAMES, exact=False) == ()
    assert end_controls(pictures[:1], FRAMES, closed=True, strength=0.0) == ()
    assert isinstance(end_controls(pictures[:1], FRAMES, closed=True)[0], EvenJoin)


def test_pictures_of_another_size_are_resized_and_of_another_length_left_out_with_a_word(caplog):
    clip, pictures = softened(sliding(), 0.01)
    large = clip.repeat_interleave(2, 1).repeat_interleave(2, 2)
    control = KeptEnds(pictures, (0, FRAMES - 1), FRAMES)
    assert (control.edit_frames(large)[0] - large[0]).abs().max() > 0.001
    with caplog.at_level(logging.WARNING, "svd_reel"):
        assert torch.equal(control.edit_frames(clip[:5]), clip[:5])
    assert "expected 9 frames, got 5; end pictures not restored" in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KeptEnds(torch.zeros(1, 3, 8, 8), (0,), 9, 2.0), r"got 2\); use 1"),
        (lambda: KeptEnds(torch.zeros(1, 3, 8, 8), (9,), 9), r"\[9\] of 9\); give one frame per picture, 0 to 8"),
        (lambda: KeptEnds(torch.zeros(2, 3, 8, 8), (0,), 9), r"got 2 pictures at the frames \[0\] of 9\)"),
        (lambda: EvenJoin(0.5), r"1 or above \(got 0.5\); use"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "; " in str(caught.value)


@pytest.mark.parametrize("leap", [0.0, 0.03, 0.15])
def test_a_join_that_leaps_is_eased_and_one_that_closes_stays(leap):
    clip = sliding(0.03, returning=True)
    clip[0] += leap * torch.randn(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(2))
    steps = steps_of(clip, closed=True)
    eased = EvenJoin().edit_frames(clip)
    after = steps_of(eased, closed=True)
    assert torch.equal(eased[1:], clip[1:])
    if steps[[0, -1]].max() <= JOIN_LIMIT * steps[:-1].median():
        assert torch.equal(eased, clip) and leap < 0.1
    else:
        assert after[[0, -1]].max() <= 1.001 * JOIN_LIMIT * steps[:-1].median()
        assert (eased[0] - clip[0]).abs().mean() < 0.5 * (clip[[-1, 1]].mean(0) - clip[0]).abs().mean()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_loops_stay_as_they_are(frames):
    clip = torch.rand(frames, 8, 8, 3)
    assert EvenJoin().edit_frames(clip) is clip
