"""The spellings of LoRA files: each means the same layers, for every layer of the real network."""

import logging

import pytest
import torch

import svd_core as svd
from svd_core.lora import LoraError, match_lora
from svd_core.lora.apply import parameter_shapes
from svd_core.lora.names import family, folder_path, is_temporal, layer_table, read_key, stem
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.networks.unet import UNet
from tests.helpers.golden_rule import key_table
from tests.helpers.lora_files import ATTENTION, layer_shapes, random_layers, spellings, write

REAL = UNetConfig()
SHAPES = layer_shapes(UNet(REAL, device="meta"))
NETWORK = UNetConfig(model_channels=32, head_channels=16, context_channels=48)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(NETWORK)


@pytest.fixture(scope="module")
def layers(unet):
    return random_layers({path: shape for path, shape in layer_shapes(unet).items() if path.endswith(ATTENTION)})


NAMES = list(spellings(random_layers({"input_blocks.1.1.time_stack.0.attn1.to_q": (4, 4)})))


def test_the_names_of_all_574_layers_are_those_of_the_official_table():
    table = {
        old.removeprefix("model.diffusion_model."): new for old, new in key_table("sgm_to_diffusers")["unet"].items()
    }
    assert len(SHAPES) == 574
    assert {folder_path(path, 2) for path in SHAPES} == {table[f"{path}.weight"][: -len(".weight")] for path in SHAPES}


def test_no_two_layers_share_a_name_once_their_dots_are_underscores():
    for name in (str, lambda path: folder_path(path, 2)):
        assert len({name(path).replace(".", "_") for path in SHAPES}) == len(SHAPES)
    assert set(layer_table(SHAPES, REAL).values()) == set(SHAPES)


@pytest.mark.parametrize("kind", NAMES)
def test_every_spelling_of_the_256_layers_of_the_svd_trainers_is_understood(kind):
    # The two public trainers adapt all attentions: 512 tensors (spec section 11.1).
    sites = {path: (2, 2) for path in SHAPES if path.endswith(ATTENTION)}
    tensors = spellings(random_layers(sites, rank=1))[kind]
    table = layer_table(SHAPES, REAL)
    names = {key: read_key(key) for key in tensors}
    assert None not in names.values()
    assert {table[stem(name)] for name, _ in names.values()} == set(sites) and len(sites) == 256
    assert sum(slot in ("down", "up") for _, slot in names.values()) == 512


@pytest.mark.parametrize("kind", NAMES)
def test_every_spelling_gives_the_same_weights_to_the_bit(unet, layers, kind, tmp_path, caplog):
    model = svd.SVDModel(unet, None, None, SVDConfig(unet=NETWORK))
    every = spellings(layers)
    first = svd.apply_loras(model, [(svd.load_lora(write(tmp_path / "a.safetensors", every[NAMES[0]])), 0.7, -1.2)])
    with caplog.at_level(logging.WARNING):
        other = svd.apply_loras(model, [(svd.load_lora(write(tmp_path / "b.safetensors", every[kind])), 0.7, -1.2)])
    assert not caplog.records
    for path in layers:
        one, two = first.unet.get_submodule(path).weight, other.unet.get_submodule(path).weight
        assert torch.equal(one, two) and not torch.equal(one, unet.get_submodule(path).weight)


@pytest.mark.parametrize(
    "alpha",
    [
        "unet.conv.to_q.alpha",
        "unet.conv.to_q.lora_alpha",
        "unet.conv.to_q.network_alpha",
        "unet.conv.to_q.lora.alpha",
        "unet.conv.to_q.lora_linear_layer.alpha",
        "unet.conv.processor.to_q_lora.alpha",
        "unet.conv.processor.to_q_lora.network_alpha",
        "lora_unet_conv_to_q.alpha",
    ],
)
def test_every_spelling_of_an_alpha_means_its_layer(alpha):
    name, slot = read_key(alpha)
    assert (stem(name), slot) == ("conv_to_q", "alpha")


def test_temporal_layers_are_separated_from_spatial_ones():
    temporal = {path for path in SHAPES if is_temporal(path)}
    folder = {path for path in SHAPES if "temporal" in folder_path(path, 2) or "time_pos_embed" in folder_path(path, 2)}
    assert temporal == folder and len(temporal) == 290
    counts = {}
    for path in SHAPES:
        counts[family(path)] = counts.get(family(path), 0) + 1
    assert counts["temporal self-attention"] == counts["spatial cross-attention"] == 64
    assert counts["temporal convolutions"] == 44 and counts["temporal feed-forward"] == 64


def test_residual_blocks_are_also_known_by_their_names_in_two_dimensional_networks():
    table = layer_table(SHAPES, REAL)
    assert table[stem("lora_unet_down_blocks_0_resnets_1_conv1")] == "input_blocks.2.0.in_layers.2"
    assert table[stem("unet.mid_block.resnets.1.time_emb_proj")] == "middle_block.2.emb_layers.1"


FOREIGN = {
    "AnimateDiff": "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q",
    "SDXL": "lora_unet_down_blocks_2_attentions_1_transformer_blocks_7_attn1_to_k",
    "SDXL, ": "lora_unet_input_blocks_7_1_transformer_blocks_1_attn1_to_k",
    "Flux": "transformer.single_transformer_blocks.3.attn.to_q",
    "Hunyuan": "diffusion_model.double_blocks.0.img_attn.qkv",
    "Wan": "diffusion_model.blocks.0.cross_attn.k",
    "ModelScope": "unet.down_blocks.0.temp_attentions.0.transformer_blocks.0.attn1.to_q",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_lora_for_another_model_is_named_even_if_some_layers_happen_to_match(unet, what, tmp_path):
    pair = (torch.ones(2, 32), torch.ones(32, 2))
    ours = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{name}.lora_{x}.weight": part.clone() for name in (ours, FOREIGN[what])
               for x, part in zip(("down", "up"), pair, strict=True)}  # fmt: skip
    lora = svd.load_lora(write(tmp_path / "other.safetensors", tensors))
    with pytest.raises(LoraError, match=what.removesuffix(", ")):
        match_lora(lora, parameter_shapes(unet), NETWORK)
