"""The nodes for longer clips, without a host: they give the clips of the core and refuse invalid input."""

import logging

import pytest
import torch

from tests.helpers.nodes_pack import part, run, write_few_layers

FILE = "svd_xt_tiny.safetensors"  # 4 frames of 64x64 pixels
SCALE = 0.18215


@pytest.fixture(scope="module", autouse=True)
def listed(tmp_path_factory):
    """The host's file list, holding the tiny checkpoint."""
    path = write_few_layers(tmp_path_factory.mktemp("models") / FILE)
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    patch.setattr(host, "model_files", lambda folder: [FILE] if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, name: str(path) if (folder, name) == ("svd", FILE) else None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def model(listed):
    return run("SVDReelLoadModel", model_name=FILE)[0]


@pytest.fixture(scope="module")
def picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]  # [1, 48, 80, 3]


@pytest.fixture(scope="module")
def sigmas():
    return run("SVDReelSchedule", steps=2)[0]


def prepared(model, picture, frames=0, **more):
    return run("SVDReelCondition", model=model, image=picture, seed=5, frames=frames, **more)


def sampled(model, prepared_clip, sigmas, **more):
    positive, negative, latent = prepared_clip
    given = {"positive": positive, "negative": negative, "latent": latent, "seed": 5, "sigmas": sigmas} | more
    return run("SVDReelSampler", model=model, **given)[0]


def extended(model, told, latent, sigmas, **more):
    given = {"overlap": 2, "seed": 5, "sigmas": sigmas} | more
    return run("SVDReelExtend", model=model, latent=latent, positive=told[0], negative=told[1], **given)[0]


def windows(model, latent, **more):
    return run("SVDReelWindows", model=model, latent=latent, **more)[0]


@pytest.mark.parametrize("options", [{}, {"ends": "closed loop", "overlap": 3}, {"weights": "linear", "rolling": 0.0}])
def test_windows_make_a_long_clip_with_room_for_one_window(model, picture, sigmas, options, monkeypatch):
    told, asked = prepared(model, picture, frames=11), []
    host = part("nodes.host.comfy")
    used = host.use
    monkeypatch.setattr(host, "use", lambda patcher, size, others=(): asked.append(size) or used(patcher, size))
    clip = sampled(model, told, sigmas, control=windows(model, told[2], **options))
    assert clip["samples"].shape == (11, 4, 8, 8) and bool(torch.isfinite(clip["samples"]).all())
    plain = sampled(model, told, sigmas)
    assert not torch.equal(clip["samples"], plain["samples"])
    assert clip["svd_reel"].closed == ("ends" in options) and not plain["svd_reel"].closed
    assert asked[1] / asked[0] == pytest.approx(11 / 4, rel=0.01)


def test_windows_of_the_whole_clip_change_nothing(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas, control=windows(model, told[2]))
    assert torch.equal(clip["samples"], sampled(model, told, sigmas)["samples"])


def test_windows_follow_another_control_and_tell_what_they_cost(model, picture, caplog):
    latent = prepared(model, picture, frames=60)[2]
    with caplog.at_level(logging.INFO, logger="svd_reel"):
        control = windows(model, latent, overlap=2, control=windows(model, latent, window_frames=30))
    assert [link[0].size for link in control.links] == [30, 4]
    assert "60 frames in windows of 4 that share 2: up to 30 passes" in caplog.messages[-1]
    assert caplog.messages[-1].count(" GB") == 2


def test_extension_is_that_of_the_core_and_keeps_what_was_there(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas)
    # Any numbers: a sampler's own come out of scaling to and fro as they went in.
    clip["samples"] = clip["samples"] + torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    longer = extended(model, told, clip, sigmas, new_frames=3)
    assert longer["samples"].shape == (7, 4, 8, 8)
    assert torch.equal(longer["samples"][:2], clip["samples"][:2]), "all but the overlap, bit for bit"
    assert longer["svd_reel"].frames == 7

    pipeline, checkpoints = part("svd_core.pipelines.extend"), part("svd_core.checkpoints")
    core = checkpoints.load_model(part("nodes.host.comfy").model_path("svd", FILE))
    read = part("nodes.shared.clips").read_conditioning
    scales = part("nodes.guidance").GuidanceCurve().over(4, core.config)
    expected = pipeline.extend_clip(
        core.denoise,
        clip["samples"] * SCALE,
        read(told[0], 0, 4, (8, 8)),
        sigmas,
        scales,
        3,
        pipeline.Extension(4, 2),
        token_of=part("svd_core.model.conditioning").frame_token(core),
        unconditional=read(told[1], 0, 4, (8, 8)),
        seed=5,
    )
    # Scaling to and fro rounds latents, which the random encoder of the next image token amplifies in a few numbers.
    torch.testing.assert_close(longer["samples"], expected / SCALE, rtol=1e-2, atol=3e-3)


def test_extension_adds_one_chunk_by_default_and_can_go_on(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas)
    once = extended(model, told, clip, sigmas)
    assert len(once["samples"]) == 6
    again = extended(model, told, once, sigmas, overlap=1, new_frames=4)
    assert len(again["samples"]) == 10
    frames = run("SVDReelDecode", vae=model.vae, latent=again)[0]
    assert tuple(frames.shape) == (10, 64, 64, 3)
    assert torch.equal(again["samples"], extended(model, told, once, sigmas, overlap=1, new_frames=4)["samples"])


def test_every_clip_of_a_batch_is_extended_as_alone(model, picture, sigmas):
    both = prepared(model, torch.cat([picture, picture.flip(2)]))
    clips = sampled(model, both, sigmas)
    longer = extended(model, both, extended(model, both, clips, sigmas), sigmas, seed=6)
    assert longer["samples"].shape == (16, 4, 8, 8)
    alone = prepared(model, picture.flip(2))
    second = {**clips, "samples": clips["samples"][4:]}
    single = extended(model, alone, extended(model, alone, second, sigmas, seed=6), sigmas, seed=7)
    # Resizing several pictures at once may round differently from resizing one.
    torch.testing.assert_close(longer["samples"][8:], single["samples"], atol=1e-3, rtol=1e-3)


def test_borders_of_a_padded_picture_are_still_cut_off_and_masks_left_behind(model, picture, sigmas):
    told = prepared(model, picture, fit="pad")
    clip = sampled(model, told, sigmas) | {"noise_mask": torch.ones(4, 8, 8)}
    longer = extended(model, told, clip, sigmas)
    assert "noise_mask" not in longer
    frames = run("SVDReelDecode", vae=model.vae, latent=longer)[0]
    assert len(frames) == 6 and frames.shape[1] < 64


def test_a_longer_clip_is_no_loop_and_its_look_is_locked_when_it_is_decoded(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas)
    note, closing = part("nodes.shared.clips").ClipNote, part("svd_core.controls.loop").EvenJoin()
    looped = clip | {"svd_reel": note(4, closed=True, finish=((closing,),))}
    once = extended(model, told, looped, sigmas)
    twice = extended(model, told, once, sigmas)
    for longer in (once, twice):
        ((look,),) = longer["svd_reel"].finish
        assert look.frames == 4 and look.strength == 0.9 and not longer["svd_reel"].closed
    off = extended(model, told, looped, sigmas, colour_lock=0.0)
    assert off["svd_reel"].finish == ()


def test_a_full_anchor_needs_no_picture_of_later_frames(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas)
    blind = model.with_parts(vae=object(), image_encoder=object())
    longer = extended(blind, told, clip, sigmas, anchor=1.0)
    assert not torch.equal(longer["samples"], extended(model, told, clip, sigmas, anchor=0.0)["samples"])


def test_what_cannot_be_is_answered_with_a_sentence(model, picture, sigmas):
    told = prepared(model, picture)
    clip = sampled(model, told, sigmas)
    cases = [
        (lambda: windows(model, told[2], window_frames=9), r"9 frames .*got 4\); use windows of at most 4"),
        (lambda: windows(model, told[2], window_frames=3, overlap=3), r"0 to 2 \(got 3\); use"),
        (lambda: windows(model, told[2], ends="closed loop"), "; use smaller windows, or a longer clip"),
        (lambda: extended(model, told, told[2], sigmas), "the latent is empty"),
        (lambda: extended(model, told, clip, sigmas, overlap=4), r"1 to 3 \(got 4\); use"),
        (
            lambda: extended(model, told, {"samples": clip["samples"][:1]}, sigmas),
            "overlap is 2 frames, but the clip has 1",
        ),
        (lambda: extended(model, ([], []), clip, sigmas), r"got 0\)"),
    ]
    for make, words in cases:
        with pytest.raises(ValueError, match=words):
            make()
