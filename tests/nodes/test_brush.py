"""The motion brush and cut and drag as nodes, without a host: effect, masks of every kind, decoding, and refusals."""

import logging

import pytest
import torch

from tests.helpers.nodes_pack import run


@pytest.fixture(scope="module")
def picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]  # [1, 64, 64, 3]


@pytest.fixture(scope="module")
def prepared(loaded, picture):
    return run("SVDReelCondition", model=loaded[0], image=picture)


def right_half(height=64, width=64):
    mask = torch.zeros(1, height, width)
    mask[..., width // 2 :] = 1.0
    return mask


def spot(x=16, y=32, size=10):
    mask = torch.zeros(1, 64, 64)
    mask[:, y - size : y + size, x - size : x + size] = 1.0
    return mask


def sampled(loaded, prepared, control=None, steps=3, seed=5):
    positive, negative, latent = prepared
    given = {"positive": positive, "negative": negative, "latent": latent, "seed": seed}
    return run(
        "SVDReelSampler", model=loaded[0], sigmas=run("SVDReelSchedule", steps=steps)[0], control=control, **given
    )[0]


def brush(loaded, picture, prepared, mask=None, **given):
    given = {"mask": right_half() if mask is None else mask, "latent": prepared[2], "image": picture, **given}
    return run("SVDReelMotionMask", model=loaded[0], **given)


def drag(loaded, picture, prepared, **given):
    given = {"mask": spot(), "latent": prepared[2], "image": picture, "path": "0.25,0.5; 0.75,0.5", **given}
    return run("SVDReelCutAndDrag", model=loaded[0], **given)


@pytest.mark.parametrize("make", [brush, drag])
def test_zero_strength_is_bit_equal_to_no_control_down_to_the_frames(loaded, picture, prepared, make):
    plain, off, on = (
        sampled(loaded, prepared, make(loaded, picture, prepared, strength=s)[0] if s is not None else None)
        for s in (None, 0.0, 1.0)
    )
    assert torch.equal(plain["samples"], off["samples"]) and not torch.equal(plain["samples"], on["samples"])
    frames = [run("SVDReelDecode", vae=loaded[2], latent=latent)[0] for latent in (plain, off)]
    assert torch.equal(*frames)


@pytest.mark.parametrize("extra", [{}, {"still_bucket": 1}, {"still_bucket": 1, "moving_bucket": 255}])
def test_still_pixels_of_the_finished_frames_are_the_picture(loaded, picture, prepared, extra):
    control, motion = brush(loaded, picture, prepared, **extra)
    assert motion.shape == (1, 64, 64) and not motion[0, :, :32].any() and motion[0, 32, 60] == 1
    frames = run("SVDReelDecode", vae=loaded[2], latent=sampled(loaded, prepared, control))[0]
    # The picture went to -1..1 and back.
    torch.testing.assert_close(frames[:, :, :32], picture.expand(4, -1, -1, -1)[:, :, :32], atol=1e-6, rtol=0)
    assert (frames[:, :, 40:] - picture[:, :, 40:]).abs().max() > 0.05
    control = brush(loaded, picture, prepared, keep_still=False, **extra)[0]
    frames = run("SVDReelDecode", vae=loaded[2], latent=sampled(loaded, prepared, control))[0]
    assert (frames[:, :, :32] - picture[:, :, :32]).abs().max() > 0.01


def test_other_buckets_by_region_reach_the_host_s_network(loaded, picture, prepared):
    usual = sampled(loaded, prepared, brush(loaded, picture, prepared)[0])["samples"]
    lively = sampled(loaded, prepared, brush(loaded, picture, prepared, moving_bucket=255)[0])["samples"]
    changed = (usual - lively).abs()
    assert changed[..., 5:].max() > 1e-6


def test_an_inverted_mask_freezes_what_is_white(loaded, picture, prepared):
    a = brush(loaded, picture, prepared, mask=right_half())[1]
    b = brush(loaded, picture, prepared, mask=1 - right_half(), invert=True)[1]
    assert torch.equal(a, b)


def test_a_mask_of_another_size_is_resized_and_the_log_says_so(loaded, picture, prepared, caplog):
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        motion = brush(loaded, picture, prepared, mask=right_half(32, 48))[1]
    assert any(
        "motion mask is 48x32, the picture 64x64 pixels; the map was resized" in r.getMessage() for r in caplog.records
    )
    assert not motion[0, :, :24].any() and motion[0, :, 48:].all()


def test_masks_per_frame_and_per_picture(loaded, picture, prepared):
    rows = torch.cat([torch.zeros(2, 64, 64), torch.ones(2, 64, 64)])
    control = brush(loaded, picture, prepared, mask=rows)[0]
    frames = run("SVDReelDecode", vae=loaded[2], latent=sampled(loaded, prepared, control))[0]
    torch.testing.assert_close(frames[:2], picture.expand(2, -1, -1, -1), atol=1e-6, rtol=0)
    assert (frames[2:] - picture).abs().max() > 0.05
    two = torch.cat([picture, picture.flip(2)])
    both = run("SVDReelCondition", model=loaded[0], image=two)
    control = brush(loaded, two, both, mask=torch.cat([right_half(), 1 - right_half()]))[0]
    frames = run("SVDReelDecode", vae=loaded[2], latent=sampled(loaded, both, control))[0]
    torch.testing.assert_close(frames[:4, :, :32], two[:1].expand(4, -1, -1, -1)[:, :, :32], atol=1e-6, rtol=0)
    torch.testing.assert_close(frames[4:, :, 32:], two[1:].expand(4, -1, -1, -1)[:, :, 32:], atol=1e-6, rtol=0)


def test_dragging_shows_the_path_what_is_pasted_and_what_is_left_behind(loaded, picture, prepared):
    control, preview, pasted, holes = drag(loaded, picture, prepared)
    assert preview.shape == (1, 768, 768, 3) and pasted.shape == (4, 64, 64, 3) and holes.shape == (4, 64, 64)
    torch.testing.assert_close(pasted[0], picture[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(pasted[3, 24:40, 40:56], picture[0, 24:40, 8:24], atol=1e-4, rtol=0)
    assert not holes[0].any() and holes[3, 32, 10] == 1 and holes[3, 32, 50] == 0
    other = drag(loaded, picture, prepared, path="0.25,0.5; 0.25,0.9")[1]
    assert (preview - other).abs().max() > 0.5
    assert torch.isfinite(sampled(loaded, prepared, control)["samples"]).all()


def test_several_objects_have_their_own_paths(loaded, picture, prepared):
    masks = torch.cat([spot(16, 16, 6), spot(48, 48, 6)])
    pasted = drag(loaded, picture, prepared, mask=masks, path="0,0; 0.5,0 | 0,0; -0.5,0")[2]
    torch.testing.assert_close(pasted[3, 12:20, 44:52], picture[0, 12:20, 12:20], atol=1e-4, rtol=0)
    torch.testing.assert_close(pasted[3, 44:52, 12:20], picture[0, 44:52, 44:52], atol=1e-4, rtol=0)


REFUSED = [
    (drag, {"path": "0.5,0.5"}, "at least 2 points (got 1); write"),
    (drag, {"path": ""}, "at least 2 points (got 0); write"),
    (drag, {"path": "0.5,0.5; right"}, "not a list of numbers"),
    (drag, {"path": "0.5,0.5; 400,300"}, "(got 400,300)"),
    (drag, {"path": "0,0; 1,1 | 0,0; 1,0"}, "masks, 1 (got 2); separate"),
    (drag, {"mask": torch.zeros(1, 64, 64)}, "the mask of object 1 is empty"),
    (drag, {"scale": "0"}, "0.1 to 10 (got 0)"),
    (drag, {"hold_background": 2.0}, "must be 0 to 1 (got 2)"),
    (brush, {"mask": torch.full((1, 64, 64), 7.0)}, "outside 0..1; give"),
    (brush, {"mask": torch.zeros(3, 64, 64)}, "3 motion masks do not fit 1 clip of 4 frames; connect 1"),
    (brush, {"feather": 90.0}, "must be 0 to 25 (got 90)"),
    (brush, {"image": torch.zeros(2, 64, 64, 3)}, "clips in the latent, 1 (got 2); connect"),
]


@pytest.mark.parametrize(("make", "given", "message"), REFUSED, ids=[r[2][:24] for r in REFUSED])
def test_bad_input_is_answered_with_a_sentence(loaded, picture, prepared, make, given, message):
    with pytest.raises(ValueError) as caught:
        make(loaded, picture, prepared, **given)
    assert message in str(caught.value) and "; " in str(caught.value)


def test_a_kept_still_follows_frames_of_another_size(loaded, picture, prepared, caplog):
    latent = sampled(loaded, prepared, brush(loaded, picture, prepared)[0])
    latent = {**latent, "samples": latent["samples"].repeat_interleave(2, 2).repeat_interleave(2, 3)}
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        frames = run("SVDReelDecode", vae=loaded[2], latent=latent)[0]
    assert "still picture is 64x64, the frames 128x128" in caplog.records[-1].getMessage()
    assert (frames[0] - frames[-1])[:, :56].abs().max() < 1e-6


def test_a_camera_on_cut_and_drag_changes_what_is_imposed_and_two_nodes_of_motion_are_named(
    loaded, picture, prepared, caplog
):
    camera = run("SVDReelCameraPath", path="pan right 0.2")[0]
    alone, filmed = (drag(loaded, picture, prepared, **more) for more in ({}, {"camera": camera}))
    assert not torch.equal(alone[2], filmed[2]) and not caplog.records
    with caplog.at_level(logging.WARNING, "svd_reel"):
        drag(loaded, picture, prepared, control=alone[0])
    assert "connect the camera to Cut and Drag" in caplog.text
    with pytest.raises(ValueError, match="depth has no effect without a camera; connect Camera Path"):
        drag(loaded, picture, prepared, depth=picture)


@pytest.mark.parametrize(("bucket", "links"), [(10, 2), (-1, 1)])
def test_the_bucket_of_imposed_motion_follows_in_the_chain_unless_it_is_switched_off(
    loaded, picture, prepared, bucket, links
):
    chain = drag(loaded, picture, prepared, motion_bucket_id=bucket)[0]
    assert len(chain.links) == links
    assert links == 1 or chain.links[1][0].bucket == ((0.0, 10.0),)
    curve = run("SVDReelMotionAmount", bucket_curve="0:40, 1:100")[0]
    assert len(drag(loaded, picture, prepared, motion_bucket_id=bucket, control=curve)[0].links) == len(curve.links) + 1
