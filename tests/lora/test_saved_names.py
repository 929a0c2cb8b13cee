"""Saved LoRAs in every spelling: read back as they were, and loaded by diffusers and peft without renaming."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import svd_core as svd
from svd_core.lora import LoraError, save_lora
from svd_core.lora.save import NAMES
from tests.helpers.imported_later import imported_later
from tests.lora.test_peft import LIMIT, model, of_diffusers, of_ours, relative, unet  # noqa: F401

diffusers = imported_later("diffusers")
peft = imported_later("peft")

LAYERS = {
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (4, 4.0),
    "input_blocks.1.1.time_stack.0.attn1.to_out.0": (4, 4.0),
    "input_blocks.1.0.in_layers.2": (2, 1.0),
    "input_blocks.2.0.time_stack.out_layers.3": (4, 2.0),
    "middle_block.1.time_stack.0.ff.net.0.proj": (3, None),
    "output_blocks.5.1.proj_in": (4, 4.0),
}
"""Layers of every kind with rank and alpha; None is the rank."""


@pytest.fixture(scope="module")
def weights(model):  # noqa: F811
    """Random factors of the layers."""
    generator = torch.Generator().manual_seed(5)
    made = {}
    for path, (rank, alpha) in LAYERS.items():
        shape = model.unet.get_submodule(path).weight.shape
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1:].numel() ** 0.5
        up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) / rank**0.5
        made[path] = (down, up, alpha)
    return made


@pytest.mark.parametrize("names", NAMES)
def test_every_spelling_gives_the_same_clip_as_the_weights(names, model, weights, tmp_path):  # noqa: F811
    file = save_lora(tmp_path / "a.safetensors", weights, {"base_model": "custom"}, names=names)
    lora = svd.load_lora(file)
    assert not lora.skipped and len(lora.layers) == len(LAYERS)
    changed = svd.apply_loras(model, [(lora, 1.0, 1.0)])
    for path, (down, up, alpha) in weights.items():
        rank = down.shape[0]
        added = (up.flatten(1) @ down.flatten(1)).reshape(*up.shape[:1], *down.shape[1:])
        added = added * ((rank if alpha is None else alpha) / rank)
        before, after = (one.unet.get_submodule(path).weight for one in (model, changed))
        assert torch.allclose(after - before, added, atol=2e-6), (names, path)


def test_the_spellings_are_those_of_their_loaders(weights, tmp_path):
    found = {}
    for names in NAMES:
        found[names] = set(load_file(save_lora(tmp_path / f"{names}.safetensors", weights, {}, names=names)))
    assert "diffusion_model.output_blocks.5.1.proj_in.lora_down.weight" in found["single-file"]
    assert "up_blocks.1.attentions.2.proj_in.lora_A.weight" in found["diffusers"]
    assert "lora_unet_up_blocks_1_attentions_2_proj_in.lora_down.weight" in found["kohya"]
    assert len(found["diffusers"]) == 2 * len(LAYERS) and len(found["kohya"]) == 3 * len(LAYERS)


def test_a_unet_of_diffusers_loads_the_file_without_renaming(unet, model, weights, tmp_path):  # noqa: F811
    file = save_lora(tmp_path / "lora.safetensors", weights, {}, names="diffusers")
    expected = of_ours(svd.apply_loras(model, [(svd.load_lora(file), 1.0, 1.0)]))

    class Loading(diffusers.UNetSpatioTemporalConditionModel, diffusers.loaders.PeftAdapterMixin):
        pass

    network = Loading(**{name: value for name, value in unet.config.items() if not name.startswith("_")})
    for name, module in network.named_modules():
        if name.endswith("_res_block"):  # diffusers' own epsilon there is another (spec section 10)
            module.norm1.eps = module.norm2.eps = 1e-5
    network.load_state_dict(unet.state_dict())
    network.load_lora_adapter(str(tmp_path), weight_name=file.name, prefix=None)
    assert relative(of_diffusers(network), expected) < LIMIT


def test_peft_takes_the_settings_and_the_tensors_as_they_are(unet, model, weights, tmp_path):  # noqa: F811
    file = save_lora(tmp_path / "lora.safetensors", weights, {}, names="diffusers")
    expected = of_ours(svd.apply_loras(model, [(svd.load_lora(file), 1.0, 1.0)]))
    with safe_open(file, "pt") as opened:
        settings = json.loads(opened.metadata()["lora_adapter_metadata"])
    settings.pop("peft_type")
    network = diffusers.UNetSpatioTemporalConditionModel(**unet.config)
    for name, module in network.named_modules():
        if name.endswith("_res_block"):
            module.norm1.eps = module.norm2.eps = 1e-5
    network.load_state_dict(unet.state_dict())
    peft.inject_adapter_in_model(peft.LoraConfig(**settings), network)
    left = peft.set_peft_model_state_dict(network, load_file(file))
    assert not left.unexpected_keys
    assert relative(of_diffusers(network), expected) < LIMIT


def test_an_unknown_spelling_is_an_error(weights, tmp_path):
    with pytest.raises(LoraError, match="names 'sdxl' are unknown; use one of single-file, diffusers, kohya"):
        save_lora(tmp_path / "a.safetensors", weights, {}, names="sdxl")
