"""The camera nodes without a host: paths, previews, control of the sampler, batches, and what they refuse."""

import logging

import pytest
import torch

from tests.helpers.nodes_pack import part, run


@pytest.fixture(scope="module")
def picture():
    """A picture of another aspect than the clip, with something to see in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]  # [1, 48, 80, 3]


@pytest.fixture(scope="module")
def prepared(loaded, picture):
    """Positive, negative and latent for one picture."""
    return run("SVDReelCondition", model=loaded[0], image=picture)


def path(text="pan right 0.2", **given):
    return run("SVDReelCameraPath", path=text, **given)[0]


def steer(loaded, picture, prepared, text="pan right 0.2", **given):
    given = {"camera": path(text), "latent": prepared[2], **given}
    return run("SVDReelCameraControl", model=loaded[0], image=picture, **given)


def clip(loaded, prepared, control=None, seed=5, steps=3, **given):
    positive, negative, latent = prepared
    sigmas = run("SVDReelSchedule", steps=steps)[0]
    given = {"positive": positive, "negative": negative, "latent": latent, "seed": seed, "sigmas": sigmas, **given}
    return run("SVDReelSampler", model=loaded[0], control=control, **given)[0]["samples"]


def test_path_node_says_in_widgets_what_it_says_in_words():
    camera, preview = run("SVDReelCameraPath", move="tilt up", amount=0.3, easing="ease", hold_start=2, hold_end=3)
    assert camera.text == "hold 2 then tilt up 0.3 ease then hold 3"
    assert preview.shape[0] == 1 and preview.shape[-1] == 3 and 0 <= preview.min() < preview.max() <= 1
    assert run("SVDReelCameraPath", move="zoom in")[0].text == "zoom in 1.25"
    assert run("SVDReelCameraPath", move="zoom in", path="roll cw 5")[0].text == "roll cw 5"


@pytest.mark.parametrize(
    ("join", "text"), [("then", "pan right 0.1 then zoom in 1.2"), ("and", "pan right 0.1, zoom in 1.2")]
)
def test_paths_are_chained_and_combined(join, text):
    assert path("zoom in 1.2", camera=path("pan right 0.1"), join=join).text == text


@pytest.mark.parametrize("move", part("svd_core.controls.camera.moves").move_names())
def test_every_move_has_a_preview(move):
    still, moving = run("SVDReelCameraPath", move="static")[1], run("SVDReelCameraPath", move=move)[1]
    assert moving.shape == still.shape
    # Below the title, which tells them apart by words alone.
    assert torch.equal(moving[:, 30:], still[:, 30:]) == (move == "static")


def test_preview_shows_the_connected_picture(picture):
    red = torch.zeros(1, 50, 90, 3)
    red[..., 0] = 1.0
    preview = run("SVDReelCameraPath", move="zoom in", image=red)[1]
    assert preview[0, 260, 300].tolist() == [1.0, 0.0, 0.0]  # inside the map's picture, off the lines
    assert run("SVDReelCameraPath", move="zoom in")[1][0, 260, 300].tolist() != [1.0, 0.0, 0.0]
    assert run("SVDReelCameraPath", path="hold 90 then pan left", image=picture)[1].shape[2] == preview.shape[2]


@pytest.mark.parametrize("mode", part("svd_core.controls.signal").SIGNAL_MODES)
def test_zero_strength_is_bit_equal_to_no_control_and_strength_is_not(loaded, picture, prepared, mode):
    plain = clip(loaded, prepared)
    off = steer(loaded, picture, prepared, mode=mode, strength=0.0)[0]
    assert torch.equal(clip(loaded, prepared, off), plain)
    on = steer(loaded, picture, prepared, mode=mode)[0]
    assert not torch.equal(clip(loaded, prepared, on), plain)


def test_warped_frames_move_and_their_holes_are_told(loaded, picture, prepared):
    control, warped, holes = steer(loaded, picture, prepared, text="truck right 0.5")
    assert warped.shape == (4, 64, 64, 3) and holes.shape == (4, 64, 64)
    assert warped.min() >= 0 and warped.max() <= 1
    assert not holes[0].any() and holes[3, :, 33:].all() and not holes[3, :, :30].any()
    torch.testing.assert_close(warped[3, :, :30], warped[0, :, 32:62], atol=1e-3, rtol=0)
    assert [len(link) for link in control.links] == [1, 1], "the signal, and the bucket that follows best"


def test_strict_control_gives_the_latents_of_the_warped_picture(loaded, picture, prepared):
    control, warped, _ = steer(loaded, picture, prepared, text="zoom in 1.3", mode="replace estimate", strength=3.0)
    wanted = torch.cat([loaded[0].encode_latent(frame[None].movedim(-1, 1) * 2 - 1) for frame in warped])
    got = clip(loaded, prepared, control, steps=6)
    errors = (got - wanted).abs().mean((1, 2, 3)) / wanted.abs().mean()
    assert errors.max() < 0.02, errors


def test_controls_follow_one_another(loaded, picture, prepared):
    first = steer(loaded, picture, prepared, mode="partial re-noise")[0]
    both = steer(loaded, picture, prepared, text="zoom in 1.3", mode="replace estimate", control=first)[0]
    kinds = [type(link[0]).__name__ for link in both.links]
    assert kinds == ["PartialRenoise", "MotionCurves", "ReplaceEstimate"], "one bucket for both"
    assert len(first.links) == 2, "the camera and the bucket that follows it best"
    latents = clip(loaded, prepared, both)
    assert torch.isfinite(latents).all() and not torch.equal(latents, clip(loaded, prepared, first))


def test_pictures_of_a_batch_have_their_own_control(loaded, picture):
    other = picture.flip(2)
    pictures = torch.cat([picture, other])
    prepared = run("SVDReelCondition", model=loaded[0], image=pictures)
    control, warped, _ = steer(loaded, pictures, prepared)
    assert len(control.links[0]) == 2 and warped.shape == (8, 64, 64, 3)
    both = clip(loaded, prepared, control)
    alone = run("SVDReelCondition", model=loaded[0], image=other, seed=24)
    single = clip(loaded, alone, steer(loaded, other, alone)[0], seed=6)
    # Resizing several pictures at once may round differently from resizing one.
    torch.testing.assert_close(both[4:], single, atol=2e-4, rtol=0)


def test_one_picture_serves_every_clip_of_a_batch(loaded, picture):
    prepared = run("SVDReelCondition", model=loaded[0], image=torch.cat([picture, picture.flip(2)]))
    control = steer(loaded, picture, prepared)[0]
    assert len(control.links[0]) == 1
    assert clip(loaded, prepared, control).shape == (8, 4, 8, 8)


@pytest.mark.parametrize("where", ["depth", "depth_mask", "foreground"])
def test_depth_lets_near_things_move_more(loaded, picture, prepared, where, caplog):
    near = torch.zeros(1, 24, 40)  # half the picture's size
    near[:, 12:] = 1.0
    given = near[..., None].expand(1, 24, 40, 3) if where == "depth" else near
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        warped, holes = steer(loaded, picture, prepared, text="truck right 0.2", **{where: given})[1:]
    assert any("is 40x24, the picture 80x48 pixels; the map was resized" in r.getMessage() for r in caplog.records)
    flat = steer(loaded, picture, prepared, text="truck right 0.2")[2]
    assert holes[3, 55, :].sum() > holes[3, 5, :].sum() + 4
    assert flat[3, 55, :].sum() == flat[3, 5, :].sum()
    assert torch.isfinite(warped).all()


def test_a_travelling_camera_without_depth_is_told_what_happens(loaded, picture, prepared, caplog):
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        steer(loaded, picture, prepared, text="pan right 0.1")
        assert not caplog.records
        steer(loaded, picture, prepared, text="dolly in 0.1")
    assert "flat board" in caplog.records[0].getMessage()


def test_progress_counts_the_steps_that_are_left(loaded, picture, prepared, monkeypatch):
    told = []
    monkeypatch.setattr(
        part("nodes.host.comfy").Progress,
        "update",
        lambda self, done, latents=None, total=None: told.append((done, total)),
    )
    control = steer(loaded, picture, prepared)[0]
    told.clear()
    clip(loaded, prepared, control, steps=10)
    assert told[-1][0] == told[-1][1] == len(told) < 10


REFUSED = [
    ({"text": "spin"}, "camera move 'spin' is unknown"),
    ({"text": "through 0 0"}, "at least 2 (got 1)"),
    ({"text": "hold 9 then pan left"}, "still for 9 frames of 4"),
    ({"depth": torch.rand(1, 9, 9, 3), "depth_mask": torch.rand(1, 9, 9)}, "both connected"),
    ({"foreground": torch.zeros(1, 48, 80), "text": "orbit left"}, "the foreground mask is empty"),
    ({"far_to_near": 1.0, "depth_mask": torch.rand(1, 48, 80)}, "1.1 to 100 (got 1)"),
    ({"latent": {"samples": torch.zeros(2, 16, 8, 8)}}, "SVD needs a latent"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[r[1][:24] for r in REFUSED])
def test_bad_input_is_answered_with_a_sentence(loaded, picture, prepared, given, message):
    with pytest.raises(ValueError) as caught:
        steer(loaded, picture, prepared, **given)
    assert message in str(caught.value) and "; " in str(caught.value)


def test_pictures_and_clips_must_agree_in_number(loaded, picture, prepared):
    with pytest.raises(ValueError, match=r"clips in the latent, 1 \(got 2\); connect the image"):
        steer(loaded, torch.cat([picture, picture]), prepared)
    three = run("SVDReelCondition", model=loaded[0], image=torch.cat([picture] * 3))
    two = run("SVDReelCondition", model=loaded[0], image=torch.cat([picture] * 2))
    control = steer(loaded, torch.cat([picture] * 2), two)[0]
    with pytest.raises(ValueError, match="made for 2 clips, .* has 3; connect the latent"):
        clip(loaded, three, control)


def test_a_control_of_another_size_is_refused(loaded, picture, prepared):
    wide = run("SVDReelCondition", model=loaded[0], image=picture, width=96)
    with pytest.raises(ValueError, match="4 frames of 64x64 pixels, the clip has 4 of 96x64; make"):
        clip(loaded, wide, steer(loaded, picture, prepared)[0])
