"""Whole differences of weights, biases and norms, as ComfyUI's LoraSave and LyCORIS write them."""

import pytest
import torch

import svd_core as svd
from svd_core.lora import LoraError, load_lora, match_lora
from svd_core.lora.apply import parameter_shapes
from tests.helpers.lora_files import random_layers, spellings, write

LAYER, TEMPORAL = "input_blocks.1.1.transformer_blocks.0.attn1.to_q", "input_blocks.1.1.time_stack.0.attn1.to_q"
NORM, TIME_NORM = "input_blocks.1.1.norm", "input_blocks.1.1.time_stack.0.norm1"
WITH_BIAS = "input_blocks.1.1.proj_in"


@pytest.fixture(scope="module")
def model() -> svd.SVDModel:
    return svd.load_model("nano")


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def parameter(model: svd.SVDModel, name: str) -> torch.Tensor:
    return model.unet.get_parameter(name).detach()


@pytest.mark.parametrize("prefix", ["diffusion_model.", "model.diffusion_model.", "diffusion_model._orig_mod."])
def test_differences_are_added_with_the_strength_of_their_layer(prefix, model, tmp_path):
    changes = {
        f"{LAYER}.weight": "diff", f"{WITH_BIAS}.weight": "diff", f"{WITH_BIAS}.bias": "diff_b",
        f"{NORM}.weight": "w_norm", f"{NORM}.bias": "b_norm", f"{TIME_NORM}.weight": "diff",
    }  # fmt: skip
    diffs = {name: numbers(*parameter(model, name).shape) for name in changes}
    tensors = {f"{prefix}{name.rpartition('.')[0]}.{end}": diffs[name] for name, end in changes.items()}
    lora = load_lora(write(tmp_path / "full.safetensors", tensors))
    terms, report = match_lora(lora, parameter_shapes(model.unet), model.config.unet, 0.5, -2.0)
    assert set(terms) == set(changes) and report.warning() is None and not lora.skipped
    changed = svd.apply_loras(model, [(lora, 0.5, -2.0)])
    for name, diff in diffs.items():
        strength = -2.0 if "time_stack" in name else 0.5
        torch.testing.assert_close(parameter(changed, name), parameter(model, name) + strength * diff)
    assert torch.equal(parameter(changed, f"{TEMPORAL}.weight"), parameter(model, f"{TEMPORAL}.weight"))


def test_a_difference_beside_a_product_adds_up(model, tmp_path):
    shape = tuple(parameter(model, f"{LAYER}.weight").shape)
    layers = random_layers({LAYER: shape})
    diff = numbers(*shape)
    tensors = spellings(layers)["single file"] | {f"diffusion_model.{LAYER}.diff": diff}
    changed = svd.apply_loras(model, [(load_lora(write(tmp_path / "both.safetensors", tensors)), 1.0, 1.0)])
    down, up = layers[LAYER]
    wanted = parameter(model, f"{LAYER}.weight") + up @ down + diff
    torch.testing.assert_close(parameter(changed, f"{LAYER}.weight"), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (f"{LAYER}.diff", (3, 5), r"a difference of \[3, 5\] for a parameter of"),
        (f"{LAYER}.diff_b", (64,), "for a bias that the layer does not have"),
        (f"{NORM}.w_norm", (1,), r"a difference of \[1\]"),
    ],
)
def test_differences_that_do_not_fit_are_counted(name, shape, words, model, tmp_path):
    lora = load_lora(write(tmp_path / "odd.safetensors", {f"diffusion_model.{name}": numbers(*shape)}))
    with pytest.raises(LoraError, match=words):
        match_lora(lora, parameter_shapes(model.unet), model.config.unet)


def test_a_product_for_a_norm_does_not_fit(model, tmp_path):
    pair = {f"diffusion_model.{NORM}.lora_{x}.weight": numbers(2, 2) for x in ("down", "up")}
    with pytest.raises(LoraError, match="a product of matrices for a parameter of"):
        match_lora(load_lora(write(tmp_path / "n.safetensors", pair)), parameter_shapes(model.unet), model.config.unet)


def test_sums_that_overflow_are_an_error_and_not_a_black_clip(tmp_path):
    half = svd.load_model("nano", dtype=torch.float16)
    shape = tuple(parameter(half, f"{LAYER}.weight").shape)
    lora = load_lora(write(tmp_path / "big.safetensors", {f"diffusion_model.{LAYER}.diff": torch.full(shape, 6e4)}))
    with pytest.raises(LoraError, match=r"attn1\.to_q\.weight overflow torch\.float16; lower their strength"):
        svd.apply_loras(half, [(lora, 3.0, 1.0)])


def test_replaced_weights_are_counted_as_not_read(model, tmp_path):
    shape = tuple(parameter(model, f"{LAYER}.weight").shape)
    tensors = spellings(random_layers({LAYER: shape}))["single file"]
    tensors |= {f"diffusion_model.{LAYER}.set_weight": numbers(*shape)}
    assert list(load_lora(write(tmp_path / "set.safetensors", tensors)).skipped) == [
        "replaced weights, which are not read"
    ]
