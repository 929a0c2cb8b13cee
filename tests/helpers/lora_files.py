"""LoRAs for the tests: random layers for any UNet, written in every spelling."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from svd_core.lora.names import folder_path

ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0")
Layers = Mapping[str, tuple[Tensor, Tensor]]


def layer_shapes(unet: nn.Module) -> dict[str, tuple[int, ...]]:
    """Module path -> shape of the weight, for every layer that multiplies matrices."""
    weights = {name: weight for name, weight in unet.named_parameters() if name.endswith(".weight") and weight.ndim > 1}
    return {name.removesuffix(".weight"): tuple(weight.shape) for name, weight in weights.items()}


def random_layers(shapes: Mapping[str, tuple[int, ...]], rank: int = 3, seed: int = 1) -> dict[str, tuple]:
    """Module path -> down [r, in, ...], up [out, r, 1, ...], whose product is about as large as a fresh weight."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for path, shape in shapes.items():
        down = torch.randn(rank, *shape[1:], generator=generator)
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator)
        layers[path] = (down / down[0].numel() ** 0.5, up / rank**0.5)
    return layers


def _tensors(layers: Layers, name, down: str, up: str, alpha: bool = False) -> dict[str, Tensor]:
    tensors = {}
    for path, (a, b) in layers.items():
        tensors[name(path) + down], tensors[name(path) + up] = a, b
        if alpha:
            tensors[name(path).removesuffix("_lora") + ".alpha"] = torch.tensor(float(len(a)))
    return {key: tensor.contiguous().clone() for key, tensor in tensors.items()}


def _processor(path: str) -> str:
    """The oldest spelling, which has no number behind to_out."""
    start, _, layer = folder_path(path, 2).removesuffix(".0").rpartition(".")
    return f"unet.{start}.processor.{layer}_lora"


def spellings(layers: Layers) -> dict[str, dict[str, Tensor]]:
    """The same layers in every spelling of spec section 11.1, for a UNet of two residual blocks per level."""

    def folder(prefix: str):
        return lambda path: prefix + folder_path(path, 2)

    def kohya(name):
        return lambda path: "lora_unet_" + name(path).replace(".", "_")

    peft, plain = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
    trainers = (".lora.down.weight", ".lora.up.weight")
    return {
        "peft, no prefix": _tensors(layers, folder(""), *peft),
        "peft, unet.": _tensors(layers, folder("unet."), *peft),
        "peft, adapter name": _tensors(
            layers, folder("base_model.model."), ".lora_A.default.weight", ".lora_B.default.weight"
        ),
        "trainers, unet.": _tensors(layers, folder("unet."), *trainers),
        "trainers, no prefix": _tensors(layers, folder(""), *trainers),
        "attention processors": _tensors(layers, _processor, ".down.weight", ".up.weight"),
        "kohya, folder names": _tensors(layers, kohya(folder("")), *plain, alpha=True),
        "kohya, single-file names": _tensors(layers, kohya(str), *plain, alpha=True),
        "single file": _tensors(layers, lambda path: f"diffusion_model.{path}", *plain, alpha=True),
        "single file, peft": _tensors(layers, lambda path: f"diffusion_model.{path}", *peft),
        "checkpoint": _tensors(layers, lambda path: f"model.diffusion_model.{path}", *plain),
    }


def alpha_key(tensors: Mapping[str, Tensor]) -> str:
    """The name that an alpha of the first layer has in the spelling of these tensors."""
    name = re.sub(r"\.(lora_A|lora_down|lora\.down|down)\b.*", "", next(iter(tensors)))
    return f"{name}.alpha"


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Save tensors as a file."""
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    return path
