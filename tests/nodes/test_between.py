"""The nodes for clips between pictures, without a host: the clip of the core, chains, loops, batches and refusals."""

import logging

import pytest
import torch

from tests.helpers.nodes_pack import part, run

FRAMES = 4


def picture(height=48, width=80, turn=0.0):
    """A picture with something to see in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([(x + turn) % 1, y, (x * y * 9) % 1], dim=-1)[None]  # [1, H, W, 3]


START, END = picture(), picture(turn=0.4)


def sample(loaded, node="SVDReelInbetween", steps=2, **given):
    sigmas = run("SVDReelSchedule", steps=steps)[0]
    motion = run("SVDReelMotion", motion_bucket_id=90, fps=9)[0]
    return run(node, **{"model": loaded[0], "image": START, "seed": 5, "sigmas": sigmas, "motion": motion} | given)[0]


def between(loaded, **given):
    return sample(loaded, **{"end_image": END} | given)


def decode(loaded, latent):
    return run("SVDReelDecode", vae=loaded[2], latent=latent)[0]


def core(checkpoint, name, *pictures, **options):
    module, animate = part("svd_core.pipelines.between"), part("svd_core.pipelines.clip")
    model = part("svd_core.checkpoints").load_model(checkpoint)
    fit = options.pop("fit", "crop")
    settings = animate.AnimateSettings(motion_bucket=90, fps=9, steps=2, seed=5, fit=fit)
    return getattr(module, name)(model, *pictures, settings, **options)


def encoded(loaded, image):
    """The unscaled latent of a clean picture at the clip's size."""
    fitted = part("svd_core.pictures").fit(image.movedim(-1, 1) * 2 - 1, 64, 64)[0]
    return loaded[0].encode_latent(fitted)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mode", part("svd_core.pipelines.between").BETWEEN_MODES)
def test_nodes_give_the_clip_of_the_core(checkpoint, loaded, mode, fit):
    frames = decode(loaded, between(loaded, mode=mode, fit=fit))
    # Latents on sockets are not scaled, which costs a rounding.
    expected = core(checkpoint, "inbetween", [START, END], mode=mode, fit=fit)
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", part("svd_core.pipelines.between").LOOP_MODES)
def test_loops_are_those_of_the_core(checkpoint, loaded, mode):
    latent = sample(loaded, "SVDReelLoop", mode=mode)
    assert len(latent["samples"]) == (FRAMES if mode == "roll" else FRAMES - 1)
    expected = core(checkpoint, "loop", START, mode=mode)
    torch.testing.assert_close(decode(loaded, latent), expected, atol=1e-4, rtol=0)


def test_finished_frames_show_the_pictures_unless_switched_off(checkpoint, loaded):
    exact, soft = between(loaded), between(loaded, exact_ends=False)
    assert torch.equal(exact["samples"], soft["samples"])
    exact, soft = decode(loaded, exact), decode(loaded, soft)
    # Between the ends is what was lost there, carried along the motion and weaker in every frame.
    changed = (exact - soft).abs().mean((1, 2, 3))
    assert changed[1:-1].max() < changed[[0, -1]].max()
    for place, image in ((0, START), (-1, END)):
        fitted = part("svd_core.pictures").fit(image.movedim(-1, 1) * 2 - 1, 64, 64)[0]
        picture_ = (fitted[0].movedim(0, -1) + 1) / 2
        near, far = ((frames[place] - picture_).abs().mean() for frames in (exact, soft))
        assert near <= far
    assert (exact - soft).abs().max() > 0.01
    expected = core(checkpoint, "inbetween", [START, END], exact_ends=False)
    torch.testing.assert_close(soft, expected, atol=1e-4, rtol=0)


def test_the_ends_are_the_pictures(loaded):
    clip = between(loaded)["samples"]
    assert tuple(clip.shape) == (FRAMES, 4, 8, 8)
    torch.testing.assert_close(clip[:1], encoded(loaded, START), atol=1e-4, rtol=0)
    torch.testing.assert_close(clip[-1:], encoded(loaded, END), atol=1e-4, rtol=0)


@pytest.mark.parametrize("images", [{"image": torch.cat([START, END]), "end_image": picture(turn=0.7)}, {}])
@pytest.mark.parametrize(("ending", "length"), [(0, 2 * (FRAMES - 1) + 1), (1, 3 * (FRAMES - 1))])
def test_a_batch_is_a_chain_without_repeated_frames(loaded, images, ending, length):
    images = images or {"end_image": torch.cat([END, picture(turn=0.7)])}
    names = part("nodes.inbetween").SVDReelInbetween.INPUT_TYPES()["required"]["ending"][0]
    latent = sample(loaded, **images, ending=names[ending])
    clip = latent["samples"]
    assert len(clip) == length and latent["svd_reel"].frames == length
    for number, image in enumerate((START, END, picture(turn=0.7))):
        at = number * (FRAMES - 1)
        torch.testing.assert_close(clip[at : at + 1], encoded(loaded, image), atol=1e-4, rtol=0)
    assert decode(loaded, latent).shape[0] == length


def test_a_batch_of_loops_has_each_picture_alone(loaded):
    both = sample(loaded, "SVDReelLoop", image=torch.cat([START, END]))
    assert len(both["samples"]) == 2 * (FRAMES - 1) and both["svd_reel"].frames == FRAMES - 1
    alone = [sample(loaded, "SVDReelLoop", image=image, seed=5 + b) for b, image in enumerate((START, END))]
    expected = torch.cat([latent["samples"] for latent in alone])
    torch.testing.assert_close(both["samples"], expected, atol=1e-4, rtol=0)
    frames = decode(loaded, both)
    torch.testing.assert_close(frames, torch.cat([decode(loaded, latent) for latent in alone]), atol=1e-4, rtol=0)


def test_a_loop_is_decoded_across_its_join(loaded):
    """Whichever of its frames comes first, they look the same, but for what the decoder pools over all frames."""
    latent = sample(loaded, "SVDReelLoop")
    open_ = {**latent, "svd_reel": part("nodes.shared.clips").ClipNote(FRAMES - 1)}

    def depends_on_the_first(clip):
        turned = {**clip, "samples": clip["samples"].roll(1, 0)}
        return (decode(loaded, turned) - decode(loaded, clip).roll(1, 0)).abs().mean()

    assert depends_on_the_first(latent) < 0.5 * depends_on_the_first(open_)


def test_an_end_picture_of_another_aspect_is_fitted_and_said(loaded, caplog):
    with caplog.at_level(logging.WARNING, "svd_reel"):
        latent = between(loaded, end_image=picture(80, 48), fit="pad")
    assert any("picture 2 is 48x80, the first 80x48; it is cropped to fit" in r.getMessage() for r in caplog.records)
    frames = decode(loaded, latent)
    assert frames.shape[2] == 64 and frames.shape[1] < 64


def test_other_controls_and_zero_strength(loaded):
    prepared = run("SVDReelCondition", model=loaded[0], image=START, seed=5)
    camera = run("SVDReelCameraPath", move="pan right")[0]
    control = run("SVDReelCameraControl", model=loaded[0], image=START, camera=camera, latent=prepared[2])[0]
    plain, steered = between(loaded)["samples"], between(loaded, control=control)["samples"]
    assert not torch.allclose(plain, steered, atol=1e-3) and torch.isfinite(steered).all()
    motion = run("SVDReelMotion", motion_bucket_id=90, fps=9)[0]
    positive, negative, latent = run("SVDReelCondition", model=loaded[0], image=START, seed=5, motion=motion)
    sigmas = run("SVDReelSchedule", steps=2)[0]
    given = {"positive": positive, "negative": negative, "latent": latent, "seed": 5, "sigmas": sigmas}
    expected = run("SVDReelSampler", model=loaded[0], **given)[0]["samples"]
    assert torch.equal(between(loaded, strength=0.0)["samples"], expected)


def test_the_seed_decides(loaded):
    first, again, other = (between(loaded, seed=seed)["samples"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"end_image": None}, r"needs 2 \(got 1 picture\)"),
        ({"frames": 2}, r"at least 3 frames \(got 2\)"),
        ({"strength": -1.0}, r"strength: .*0 to 1 .got -1.; connect"),
        ({"mode": "magic"}, "mode 'magic' is unknown"),
        ({"end_image": torch.full((1, 8, 8, 3), float("nan"))}, "NaN"),
        ({"width": 60}, "width 60 is not a multiple of 8"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(loaded, given, words):
    with pytest.raises(ValueError, match=words):
        between(loaded, **given)
    if "mode" in given:
        with pytest.raises(ValueError, match="loop mode 'magic' is unknown"):
            sample(loaded, "SVDReelLoop", **given)
