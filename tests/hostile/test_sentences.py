"""Sentences name the true cause: those that once sent people the wrong way."""

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core.batch.rows import read_rows
from svd_core.checkpoints import inspect_checkpoint
from svd_core.model.model import SVDModel
from svd_core.networks.unet import UNet
from svd_core.sampling.sampler import sample
from svd_core.training.data.sources import find_sources
from tests.helpers.checkpoint_files import SMALL, small_tensors


class Overflowing(SVDModel):
    """A model whose estimate is never finite."""

    def denoise(self, x, sigma, condition):
        return x * float("nan")


@pytest.mark.parametrize(
    ("dtype", "broken", "said"),
    [
        (torch.float32, True, r"time_embed\.0\.weight.*damaged"),
        (torch.float16, True, r"time_embed\.0\.weight.*damaged"),
        (torch.float16, False, "in float32 instead of float16"),
        (torch.float32, False, "lower the guidance"),
    ],
)
def test_latents_that_are_not_finite_name_the_weight_or_the_precision(dtype, broken, said):
    unet = UNet(SMALL.unet).to(dtype)
    if broken:
        unet.time_embed[0].weight.data[0, 0] = float("nan")
    model = Overflowing(unet, None, None, SMALL)
    condition = type("Plain", (), {"latent": torch.zeros(1, 4, 8, 8)})()
    with pytest.raises(ValueError, match=f"step 1 of 1.*{said}") as caught:
        sample(model.denoise, torch.zeros(2, 4, 8, 8), [1.0, 0.0], 1.0, condition)
    assert not broken or "float32" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("down_blocks.0.resnets.0.temporal_res_block.conv1.weight", "conv_in.weight"), "part of one.*ControlNet"),
        (("_orig_mod.down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_k.lora_A.weight",), "is a LoRA"),
        (("a.b.alpha", "a.b.lora_down.weight", "a.b.lora_up.weight"), "is a LoRA"),
    ],
)
def test_files_that_are_no_model_are_named(names, said, tmp_path):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=said) as caught:
        inspect_checkpoint(tmp_path / "x.safetensors")
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("table", ["image\n.\\x.png\n", "image,motion_mask\nx.png,.\\x.png\n"])
def test_windows_separators_in_a_table_are_named(table, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "rows.csv").write_text(table)
    with pytest.raises(ValueError, match=r"row 2.*backslashes.*write '\./x\.png'"):
        read_rows(tmp_path / "rows.csv")
    assert [row.name for row in read_rows(_table(tmp_path, "./x.png"))] == ["x"]


def _table(folder, image):
    path = folder / "good.csv"
    path.write_text(f"image\n{image}\n")
    return path


def test_a_wrong_camera_move_is_named_before_any_clip_is_cut(tmp_path):
    for name in "ab":
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="move 'fly' is unknown"):
        find_sources(tmp_path, move="fly away")


@pytest.mark.parametrize(
    ("name", "scale", "said"),
    [
        ("sdxl_vae.safetensors", None, "is the VAE of SDXL"),
        ("vae/diffusion_pytorch_model.safetensors", 0.13025, "the VAE of SDXL.*0.13025.*0.18215"),
        ("vae/diffusion_pytorch_model.safetensors", 0.5, "the VAE of another model"),
        ("vae/diffusion_pytorch_model.safetensors", 0.18215, "VAE alone, of an image model"),
        ("vae-ft-mse-840000.safetensors", None, "VAE alone, of an image model"),
    ],
)
def test_the_vae_of_an_image_model_is_named(name, scale, said, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    tensors = small_tensors(replace(SMALL, vae=replace(SMALL.vae, temporal=False)))
    start = "first_stage_model."
    save_file({key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}, path)
    if scale is not None:
        (path.parent / "config.json").write_text(json.dumps({"scaling_factor": scale}))
    try:
        text = str(inspect_checkpoint(path if scale is None else path.parent))
    except ValueError as error:
        text = str(error)
    assert re.search(said, text), text
