"""The ungated diffusers folder of SV3D_p, whose autoencoder is the stock one of Stable Diffusion 1.5."""

import json

import pytest
import torch
from safetensors.torch import save_file

import svd_core as svd
from svd_core.checkpoints.split import split_state_dict
from svd_core.pipelines.orbit import OrbitSettings, orbit
from tests.helpers.checkpoint_files import TOWER, UNET, folder_tensors, write_folder
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule, key_table

SVD_AUTOENCODER = "conditioner.embedders.3.encoder."
AUTOENCODER = "conditioner.embedders.1.encoder."
METADATA = {"svd.variant": "sv3d_p", "svd.head_channels": "16", "svd.clip_head_channels": "16", "svd.frames": "5"}
OLD_NAMES = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))


@pytest.fixture(scope="module")
def tensors():
    return fill_by_rule(read_golden(DATA / "family" / "sv3d_p_tiny.safetensors").shapes, 3)


def stock_autoencoder(tensors, old_names):
    """The conditioner's autoencoder in folder naming: attention is linear, and old files name it otherwise."""
    made = {}
    for single, folder in key_table("sgm_to_diffusers")["frame_autoencoder"].items():
        value = tensors[AUTOENCODER + single.removeprefix("first_stage_model.").removeprefix(SVD_AUTOENCODER)]
        if ".attentions." in folder and value.dim() == 4:
            value = value[:, :, 0, 0]
        for new, old in OLD_NAMES if old_names else ():
            folder = folder.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        made[folder] = value.contiguous()
    return made


@pytest.mark.parametrize("old_names", [False, True])
def test_the_folder_makes_the_orbit_of_the_single_file(tensors, tmp_path, old_names):
    single = {key: value for key, value in tensors.items() if not key.startswith("first_stage_model.")}
    save_file(single, tmp_path / "sv3d_p.safetensors", METADATA | {"svd.width": "64", "svd.height": "64"})
    parts = folder_tensors({key: value for key, value in tensors.items() if key.startswith((UNET, TOWER))})
    parts["vae"] = stock_autoencoder(tensors, old_names)
    folder = write_folder(tmp_path / "sv3d-diffusers", parts)
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"num_frames": 5}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    (folder / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    clips = []
    for path in (tmp_path / "sv3d_p.safetensors", folder):
        model = svd.load_model(str(path))
        assert model.variant == "sv3d_p" and not model.config.vae.temporal and model.config.frames == 5
        picture = torch.ones(1, 64, 64, 3)
        picture[:, 16:48, 20:40] = torch.tensor([0.2, 0.5, 0.8])
        clips.append(orbit(model, picture, OrbitSettings(size=64, steps=2)).frames)
    # Equal weights at other places of the files: the CPU's kernels round otherwise, about 1e-4 over two steps.
    assert torch.allclose(*clips, atol=1e-3)


@pytest.mark.parametrize("alike", [True, False])
def test_a_decoder_without_its_map_is_left_only_for_the_whole_one_that_it_was_made_of(tensors, alike):
    conditioner = {
        key.removeprefix(AUTOENCODER): value for key, value in tensors.items() if key.startswith(AUTOENCODER)
    }
    kernel, bias = (conditioner[f"decoder.conv_in.{kind}"] for kind in ("weight", "bias"))
    first, shift = (conditioner[f"post_quant_conv.{kind}"] for kind in ("weight", "bias"))
    own = {key: value for key, value in conditioner.items() if key.startswith("decoder.")}
    own["decoder.conv_in.weight"] = torch.einsum("oiyx,ic->ocyx", kernel, first[..., 0, 0])
    own["decoder.conv_in.bias"] = bias + torch.einsum("oiyx,i->o", kernel, shift)
    if not alike:
        own["decoder.conv_in.weight"] = own["decoder.conv_in.weight"] * 1.5
    others = {key: value for key, value in tensors.items() if not key.startswith("first_stage_model.")}
    given = others | {f"first_stage_model.{key}": value for key, value in own.items()}
    parts = split_state_dict(given, METADATA)
    assert parts.config.vae.post_quant_conv == alike
