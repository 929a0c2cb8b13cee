"""Clips that are sampled in two stages, noise masks, and what other nodes may connect to the sockets."""

import re

import pytest
import torch

from tests.helpers.nodes_pack import pack, part, run, write_tiny

FILE = "svd_xt_tiny.safetensors"
SIGMAS = torch.tensor([20.0, 8.0, 3.0, 1.0, 0.0])


@pytest.fixture(scope="module", autouse=True)
def listed(tmp_path_factory):
    """The host's file list, holding a tiny checkpoint."""
    checkpoint = write_tiny(tmp_path_factory.mktemp("models") / FILE)
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    patch.setattr(host, "model_files", lambda folder: [FILE] if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, name: str(checkpoint) if (folder, name) == ("svd", FILE) else None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def loaded(listed):
    return run("SVDReelLoadModel", model_name=FILE)


@pytest.fixture(scope="module")
def prepared(loaded):
    picture = torch.rand(1, 48, 80, 3, generator=torch.Generator().manual_seed(0))
    return run("SVDReelCondition", model=loaded[0], image=picture, seed=5)


def sample(loaded, prepared, latent=None, sigmas=SIGMAS, **more):
    positive, negative, empty = prepared
    given = {"positive": positive, "negative": negative, "latent": latent or empty, "seed": 5} | more
    return run("SVDReelSampler", model=loaded[0], sigmas=sigmas, **given)[0]


def test_two_stages_without_added_noise_give_the_clip_of_one(loaded, prepared, caplog):
    whole = sample(loaded, prepared)
    first = sample(loaded, prepared, sigmas=SIGMAS[:3])
    second = sample(loaded, prepared, first, SIGMAS[2:], add_noise=False)
    assert "noise" not in caplog.text
    # Between the stages the latents are divided and multiplied by 0.18215: a rounding of 1e-7 of noise of sigma 3.
    torch.testing.assert_close(second["samples"], whole["samples"], rtol=1e-4, atol=1e-4)


def test_noise_that_is_added_twice_or_missing_is_said(loaded, prepared, caplog):
    first = sample(loaded, prepared, sigmas=SIGMAS[:3])
    sample(loaded, prepared, first, SIGMAS[2:])
    assert re.search(r"sigma 3\b.*add_noise off", caplog.text)
    caplog.clear()
    foreign = {"samples": first["samples"] * 3}  # of another sampler, which leaves no note
    sample(loaded, prepared, foreign, SIGMAS[2:])
    assert "add_noise off" in caplog.text
    caplog.clear()
    sample(loaded, prepared, first, SIGMAS[1:], add_noise=False)
    assert re.search(r"starts at sigma 8\b.*sigma 3\b", caplog.text)
    with pytest.raises(ValueError, match="without added noise"):
        sample(loaded, prepared, add_noise=False)


def test_a_noise_mask_keeps_the_clip_outside_it(loaded, prepared):
    clip = sample(loaded, prepared)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    again = sample(loaded, prepared, {**clip, "noise_mask": mask}, SIGMAS[1:], seed=6)
    # The last step returns the estimate, whose kept part is the clip itself.
    torch.testing.assert_close(again["samples"][..., :3], clip["samples"][..., :3], rtol=1e-5, atol=1e-5)
    assert float((again["samples"][..., 5:] - clip["samples"][..., 5:]).abs().max()) > 0.1
    free = sample(loaded, prepared, {**clip, "noise_mask": torch.ones(1, 64, 64)}, SIGMAS[1:], seed=6)
    assert torch.equal(free["samples"], sample(loaded, prepared, clip, SIGMAS[1:], seed=6)["samples"])
    with pytest.raises(ValueError, match="no clip to keep"):
        sample(loaded, prepared, {**prepared[2], "noise_mask": mask})


def test_a_noise_mask_is_applied_as_the_host_applies_it():
    """`KSamplerX0Inpaint` of ComfyUI, written out for one evaluation."""
    module = part("svd_core.controls.noise_mask")
    generator = torch.Generator().manual_seed(1)
    x, latent, noise = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(3))
    mask = module.fit_noise_mask(torch.rand(1, 24, 40, generator=generator), 2, 3, 5)
    assert mask.shape == (2, 1, 3, 5) and torch.equal(mask[0], mask[1])
    seen = []

    def model(state, sigma, inputs):
        seen.append(state)
        return state * 0.5

    run_ = type("Run", (), {"noise": noise})()
    out = module.NoiseMask(latent, mask).wrap(run_, model)(x, 3.0, None)
    state = x * mask + (latent + noise * 3.0) * (1 - mask)
    torch.testing.assert_close(seen[0], state)
    torch.testing.assert_close(out, state * 0.5 * mask + latent * (1 - mask))


PICTURE = torch.full((1, 48, 80, 3), 0.5)
TEXT = [[torch.zeros(1, 77, 1024), {"pooled_output": torch.zeros(1, 1280)}]]


class OtherVAE:
    """The VAE of a model with latents of 16 channels."""

    latent_channels = 16


# Every row: the node, what replaces its inputs, and what the one sentence must name.
WRONG = [
    ("SVDReelCondition", {"image": (PICTURE * 255).to(torch.uint8)}, r"image: .*uint8.*0 to 1"),
    ("SVDReelCondition", {"image": PICTURE * 255}, r"image: .*127\.5.*0 to 1"),
    ("SVDReelCondition", {"image": PICTURE[0]}, r"image: .*3 axes"),
    ("SVDReelCondition", {"image": PICTURE[:0]}, r"image: .*0 pictures"),
    ("SVDReelCondition", {"image": PICTURE[..., :2]}, r"image: .*2 channels"),
    ("SVDReelCondition", {"image": PICTURE / 0}, r"image: .*NaN or infinite"),
    ("SVDReelCondition", {"image": None}, r"image is empty"),
    ("SVDReelCondition", {"image": "photo.png"}, r"image: a str is no IMAGE"),
    ("SVDReelCondition", {"vae": OtherVAE()}, r"vae: .*16 channels"),
    ("SVDReelCondition", {"seed": -1}, r"seed: .*-1"),
    ("SVDReelCondition", {"width": 10**9}, r"width: .*16384"),
    ("SVDReelFinish", {"images": PICTURE * 255}, r"images: .*127\.5"),
    ("SVDReelFinish", {"images": PICTURE, "fps": float("nan")}, r"fps: .*nan"),
    ("SVDReelReport", {"frames": PICTURE * 255}, r"frames: .*127\.5"),
    ("SVDReelTrainingSet", {"images": PICTURE * 255}, r"images: .*127\.5"),
    ("SVDReelTrainingSet", {"folder": "x" * 10**7}, r"folder: .*10,000,000"),
    ("SVDReelColorMatch", {"frames": PICTURE * 255}, r"127\.5|is empty"),
    ("SVDReelDecode", {"vae": OtherVAE(), "latent": {"samples": torch.zeros(2, 4, 8, 8)}}, r"vae: .*16 channels"),
    ("SVDReelDecode", {"latent": {"samples": torch.zeros(2, 16, 8, 8)}}, r"latent: .*\[2, 16, 8, 8\]"),
    ("SVDReelDecode", {"latent": {"samples": torch.zeros(2, 4, 0, 8)}}, r"latent: .*\[2, 4, 0, 8\]"),
    ("SVDReelDecode", {"latent": {"samples": torch.zeros(0, 4, 8, 8)}}, r"latent: .*\[0, 4, 8, 8\]"),
    ("SVDReelDecode", {"latent": {"samples": torch.zeros(2, 4, 8, 8) / 0}}, r"latent: .*NaN"),
    ("SVDReelDecode", {"latent": {}}, r"latent: .*no LATENT"),
    ("SVDReelDecode", {"latent": torch.zeros(2, 4, 8, 8)}, r"latent: .*no LATENT"),
    ("SVDReelSampler", {"positive": TEXT}, r"\[1, 77, 1024\].*text encoder"),
    ("SVDReelSampler", {"positive": [[torch.zeros(1, 1, 768), {}]]}, r"768 channels"),
    ("SVDReelSampler", {"positive": [[torch.zeros(1, 1, 64), {"concat_latent_image": torch.zeros(1, 16, 8, 8)}]]},
     r"\[1, 16, 8, 8\]"),
    ("SVDReelSampler", {"positive": []}, r"1 entry \(got 0\)"),
    ("SVDReelSampler", {"positive": [torch.zeros(1, 1, 16)]}, r"positive: .*no CONDITIONING"),
    ("SVDReelMotionMask", {"mask": torch.zeros(1, 0, 8)}, r"mask: .*\[1, 0, 8\]"),
    ("SVDReelMotionMask", {"mask": torch.zeros(1, 8, 8) / 0}, r"mask: .*finite"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "given", "message"), WRONG)
def test_what_does_not_fit_a_socket_is_one_sentence_with_its_name(loaded, prepared, node, given, message):
    model, _, vae = loaded
    positive, negative, latent = prepared
    usual = {"model": model, "vae": vae, "image": PICTURE, "positive": positive, "negative": negative}
    usual |= {"latent": latent, "mask": torch.ones(1, 8, 8), "images": PICTURE, "frames": PICTURE, "seed": 5}
    entries = pack().NODE_CLASS_MAPPINGS[node].INPUT_TYPES()
    taken = {**entries["required"], **entries.get("optional", {})}
    usual = {name: value for name, value in usual.items() if name in taken and taken[name][0] != "INT"}
    with pytest.raises(ValueError, match=message) as caught:
        run(node, **usual | given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
