"""Checkpoint files for the tests: the golden tiny model in every layout, and real-size files whose data is a hole."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from svd_core.networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

from .golden_rule import fill_by_rule, golden_shapes, key_table

TINY = {
    "svd.head_channels": "16",
    "svd.clip_head_channels": "16",
    "svd.frames": "4",
    "svd.width": "64",
    "svd.height": "64",
}
UNET = "model.diffusion_model."
TOWER = "conditioner.embedders.0.open_clip.model.visual."
CONDITIONER, FIRST_STAGE = "conditioner.embedders.3.encoder.", "first_stage_model."
# Sizes unlike SVD's in every respect, with few tensors.
SMALL = SVDConfig(
    unet=UNetConfig(8, 4, 32, (1, 3), 1, (0,), 8, 24, 768),
    vae=VAEConfig(CoderConfig(32, (1, 2), 1), CoderConfig(64, (1, 3), 2)),
    image_encoder=ImageEncoderConfig(28, 7, 32, 2, 8, 96, 24),
    variant="custom",
    frames=5,
    width=48,
    height=40,
)
SMALL_METADATA = {
    "svd.head_channels": "8",
    "svd.clip_head_channels": "8",
    "svd.frames": "5",
    "svd.width": "48",
    "svd.height": "40",
}

# The fewest layers of a model whose latents are an eighth of the picture: one pass takes milliseconds.
FEW_LAYERS = replace(
    SMALL,
    vae=VAEConfig(CoderConfig(32, (1, 1, 1, 1), 1), CoderConfig(32, (1, 1, 1, 1), 1)),
    frames=4,
    width=64,
    height=64,
)
FEW_LAYERS_METADATA = SMALL_METADATA | {"svd.frames": "4", "svd.width": "64", "svd.height": "64"}


@lru_cache(maxsize=2)
def tiny_tensors(name: str = "svd_xt_tiny", seed: int = 0) -> dict[str, Tensor]:
    """All tensors of a golden tiny checkpoint in single-file naming; do not change the dictionary."""
    return fill_by_rule(golden_shapes(name), seed)


@lru_cache(maxsize=2)
def small_tensors(config: SVDConfig = SMALL) -> dict[str, Tensor]:
    """A whole model of the sizes of `config` in single-file naming; do not change the dictionary."""
    shapes = {UNET + key: t.shape for key, t in UNet(config.unet, device="meta").state_dict().items()}
    tower = ImageEncoder(config.image_encoder, device="meta").state_dict()
    shapes |= {TOWER + key: tensor.shape for key, tensor in tower.items()}
    for key, tensor in VAE(config.vae, device="meta").state_dict().items():
        shapes[(FIRST_STAGE if key.startswith("decoder.") else CONDITIONER) + key] = tensor.shape
    return fill_by_rule(shapes, seed=7)


def only_unet(tensors: Mapping[str, Tensor], prefix: str = UNET) -> dict[str, Tensor]:
    """The UNet's tensors, with another prefix."""
    return {prefix + key.removeprefix(UNET): value for key, value in tensors.items() if key.startswith(UNET)}


def folder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The same model in folder naming by the official mapping table: part -> key -> tensor."""
    table = key_table("sgm_to_diffusers")
    parts: dict[str, dict[str, Tensor]] = {"image_encoder": {}}
    for part in ("unet", "vae"):
        parts[part] = {new: tensors[old].contiguous() for old, new in table[part].items() if old in tensors}
    for old in filter(tensors.__contains__, table["vae_squeeze"]):
        parts["vae"][table["vae"][old]] = tensors[old][:, :, 0, 0].contiguous()
    for old, targets in table["image_encoder"].items():
        if old not in tensors:
            continue  # the table has 32 layers, the tiny tower three
        for index, (new, operation) in enumerate(targets):
            value = tensors[old]
            if operation == "transpose":
                value = value.t()
            elif operation.startswith("rows"):
                value = value.chunk(3)[index]
            parts["image_encoder"][new] = value.contiguous().clone()
    return parts


def write_folder(folder: Path, parts: Mapping[str, Mapping[str, Tensor]], *, half: str = "") -> Path:
    """Write a diffusers folder with config files for heads 16 wide; `half` goes before .safetensors."""
    for part, tensors in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        save_file(dict(tensors), folder / part / f"{stem}{half}.safetensors", metadata={"format": "pt"})
    configs = {
        "unet": {"num_frames": 4, "block_out_channels": [32, 64, 128, 128], "num_attention_heads": [2, 4, 8, 8]},
        "image_encoder": {"hidden_size": 64, "num_attention_heads": 4, "hidden_act": "gelu"},
    }
    for part in configs.keys() & parts.keys():
        (folder / part / "config.json").write_text(json.dumps(configs[part]), encoding="utf-8")
    (folder / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}', encoding="utf-8")
    return folder


def header_bytes(
    shapes: Mapping[str, Sequence[int]], dtype: str = "F32", metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """Start of a safetensors file as the library writes it (sorted names), and the bytes of data behind it."""
    size, position = {"F32": 4, "F16": 2, "BF16": 2}[dtype], 0
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    for key in sorted(shapes):
        end = position + size * math.prod(shapes[key])
        header[key] = {"dtype": dtype, "shape": list(shapes[key]), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, position


def write_hollow(
    path: Path, shapes: Mapping[str, Sequence[int]], dtype: str = "F32", metadata: Mapping[str, str] | None = None
) -> Path:
    """A file of any size that takes no room on disk: a true header, and a hole of zeros for the data."""
    start, data = header_bytes(shapes, dtype, metadata)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + data)
    return path


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two modules have the same tensors, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
