"""Conditioning and the whole sampling loop against the official implementation (tests/data/golden)."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import svd_core as svd
from svd_core.model.conditioning import clip_pixels
from tests.helpers import golden_rule

NAMES = ["svd_xt_tiny", "image_decoder_tiny"]


def relative(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module", params=NAMES)
def golden(request, tmp_path_factory):
    """The model by the weight rule, loaded from a file, with the tensors and settings of its golden outputs."""
    with safe_open(golden_rule.DATA / "golden" / f"{request.param}.safetensors", "pt") as file:
        settings = {name: json.loads(value) for name, value in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    path = tmp_path_factory.mktemp("golden") / f"{request.param}.safetensors"
    widths = {"svd.head_channels": settings["head_channels"], "svd.clip_head_channels": settings["clip_head_width"]}
    weights = golden_rule.fill_by_rule(golden_rule.golden_shapes(request.param), settings["seed"])
    save_file(weights, path, {name: str(value) for name, value in widths.items()})
    return svd.load_model(path), tensors, settings


@pytest.fixture(scope="module")
def condition(golden):
    model, tensors, settings = golden
    return svd.Condition(
        model.encode_image(tensors["image"]),
        model.encode_latent(tensors["image"] + settings["aug"] * tensors["aug_noise"]),
        model.embed_motion(
            fps_id=settings["fps"] - 1, motion_bucket_id=settings["motion"], augmentation_level=settings["aug"]
        ),
    )


# Bounds are the ones tests/data/golden/README.md gives for float32: 1e-5 relative for a tensor, 5e-5 for a whole loop.
def test_condition_is_the_official_one(golden, condition):
    _, tensors, settings = golden
    rows = condition.over_frames(settings["frames"])
    assert relative(clip_pixels(tensors["image"]), tensors["clip_preprocessed"]) < 1e-6
    assert relative(condition.token, tensors["clip_embed"]) < 1e-5
    assert relative(rows.token, tensors["cond_crossattn"]) < 1e-5
    assert relative(rows.latent, tensors["cond_concat"]) < 1e-5
    # Sinusoids of 127 amplify the last bit of a frequency 127 times.
    assert relative(rows.vector, tensors["cond_vector"]) < 1e-5


@pytest.mark.parametrize("sigma", ["700.0", "7.0", "0.5", "0.002"])
def test_denoiser_is_the_official_one(golden, condition, sigma):
    model, tensors, _ = golden
    x = tensors["noise"] * (1 + float(sigma) ** 2) ** 0.5
    assert relative(model.denoise(x, float(sigma), condition), tensors[f"denoised_sigma_{sigma}"]) < 1e-5


def test_sampling_loop_is_the_official_one(golden, condition):
    model, tensors, settings = golden
    sigmas = svd.karras_sigmas(settings["steps"])
    # The official list is computed in float32, whose 7th power puts 0.002 off by 2e-6; ours is rounded once.
    torch.testing.assert_close(sigmas, tensors["sigmas"], rtol=3e-6, atol=0)
    guider = settings["guider"]["params"]
    guidance = svd.linear_guidance(guider["min_scale"], guider["max_scale"], settings["frames"])
    latents = svd.sample(model.denoise, tensors["noise"], sigmas, guidance, condition)
    assert relative(latents, tensors["samples_z"]) < 5e-5
