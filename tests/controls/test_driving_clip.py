"""Control by a clip: animations as they are, the camera of a clip, and the motion of its pixels, by known motions."""

import logging

import pytest
import torch

from svd_core.controls.driving_clip import driven_frames, driving_signal, pick_frames
from svd_core.pictures import fit

SIDE, FRAMES = 64, 5


def world(seed=1, size=160):
    coarse = torch.rand(1, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def panning(frames, pixels, seed=1, side=SIDE):
    """A clip [T, side, side, 3] whose content moves left by `pixels` per frame."""
    whole = world(seed)
    views = [whole[..., 40 : 40 + side, 40 + pixels * t : 40 + pixels * t + side] for t in range(frames)]
    return torch.cat(views).movedim(1, -1).contiguous()


PICTURE = panning(1, 0, seed=2).movedim(-1, 1) * 2 - 1


def encode(picture):
    return torch.cat([picture, picture[:, :1]], 1)[..., 4::8, 4::8]


def shift_of(first, second):
    """How many pixels the middle of `second` is moved to the right against `first`, [1, 3, H, W]."""
    inner = second[..., 16:-16, 20:-20]
    errors = {d: (first.roll(d, -1)[..., 16:-16, 20:-20] - inner).abs().mean() for d in range(-16, 17)}
    return min(errors, key=errors.get)


@pytest.mark.parametrize("use", ["camera", "flow"])
@pytest.mark.parametrize("amount", [1.0, 0.5])
def test_a_driving_clip_moves_another_picture_like_itself(use, amount):
    clip = panning(2 * FRAMES - 1, 2)
    rough = driven_frames(PICTURE, clip, FRAMES, use, amount=amount)
    assert torch.equal(rough.frames[:1], PICTURE)
    asked = -4 * (FRAMES - 1) * amount
    assert abs(shift_of(rough.frames[:1], rough.frames[-1:]) - asked) <= max(1, 0.1 * abs(asked))
    assert rough.valid[-1, 0, 20:-20, -4:].mean() < 0.5 < rough.valid[-1, 0, 20:-20, 8:32].mean(), (
        "uncovered at the right"
    )


def test_an_animation_is_taken_as_it_is_where_the_mask_says():
    clip = panning(9, 1, seed=2)
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    made = driving_signal(encode, PICTURE, clip, FRAMES, mask=mask)
    expected = fit(clip[[0, 2, 4, 6, 8]].movedim(-1, 1) * 2 - 1, SIDE, SIDE, "crop")[0]
    torch.testing.assert_close(made.warped.frames[1:], expected[1:], atol=1e-4, rtol=0)
    assert made.signal.valid[0].min() == 1 and made.signal.valid[1:, ..., :4].min() == 1
    assert made.signal.valid[1:, ..., 4:].max() == 0
    per_frame = mask.repeat(9, 1, 1)
    again = driving_signal(encode, PICTURE, clip, FRAMES, mask=per_frame)
    assert torch.equal(again.signal.valid, made.signal.valid)


def test_an_animation_that_begins_elsewhere_gets_a_line_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "svd_reel"):
        driven_frames(PICTURE, panning(5, 1, seed=2), FRAMES)
        assert not caplog.records
        driven_frames(PICTURE, panning(5, 1, seed=3), FRAMES)
    assert "begin it with the picture" in caplog.text


def test_frames_are_spread_evenly_over_the_clip():
    clip = torch.arange(9.0)[:, None, None, None].expand(9, 16, 16, 3) / 9
    assert (pick_frames(clip, 5)[:, 0, 0, 0] * 9).round().tolist() == [0, 2, 4, 6, 8]
    assert (pick_frames(clip[:3], 5)[:, 0, 0, 0] * 9).round().tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"use": "magic"}, "'magic' is unknown; use one of animation, camera, flow"),
        ({"amount": 9.0}, r"0 to 4 \(got 9\); use 0.5 to 1.5"),
        ({"mask": torch.ones(3, 8, 8)}, r"1 frame or 5 \(got 3\)"),
        ({"mask": torch.ones(8, 8), "use": "flow"}, "no effect with the use 'flow'"),
        ({"clip": torch.zeros(1, 16, 16, 3)}, r"2 frames or more \(got 1 for 5\)"),
    ],
)
def test_bad_input_ends_in_a_sentence(given, words):
    given = {"clip": panning(5, 1), **given}
    with pytest.raises(ValueError, match=words):
        driven_frames(PICTURE, given.pop("clip"), FRAMES, **given)
