"""Weights of the UNet in 8 or 4 bits, in which comfy-kitchen computes, where the host has it.

The host's own layers hold, move, patch and save them, so files saved from such a model are those of the host.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...svd_core.checkpoints.parts import Part
from ...svd_core.checkpoints.quantised import FLOAT8, INT8, MARK, NVFP4
from . import comfy as host

FORMATS = {"int8": INT8, "fp8 scaled": FLOAT8, "nvfp4": NVFP4}
"""Choices of the loader, and the format that each stands for."""

OPTIONS: dict[str, dict[str, Any]] = {INT8: {"per_channel": True}, FLOAT8: {"scale": "recalculate"}, NVFP4: {}}
"""Options of comfy-kitchen. Int8 has one scale for each row, which halves its error."""

MATRICES = re.compile(r".+\.(?:transformer_blocks|time_stack)\.0\..+\.weight")
"""What is rounded: attention and feed-forward. Other layers are small, or convolutions, which no kernel takes."""

MULTIPLE = 16
"""Both sides of a matrix must be multiples of this for the kernels; those of SVD are."""


def check_format(choice: str) -> None:
    """Raise ValueError for a choice of the loader that this host cannot compute."""
    if choice in FORMATS and FORMATS[choice] not in known_formats():
        raise ValueError(
            f"precision {choice} needs comfy-kitchen with the format {FORMATS[choice]}, which is not there; update "
            "ComfyUI (0.33 has it), or choose fp16, bf16 or fp32"
        )


def known_formats() -> frozenset[str]:
    """Return the formats in which the host can compute; empty without comfy-kitchen."""
    ready = host.quant_ops is not None and getattr(host.quant_ops, "_CK_AVAILABLE", False)
    return frozenset(host.quant_ops.QUANT_ALGOS) if ready else frozenset()


def rounded(part: Part, format: str, compute: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors for the host's layers: attention and feed-forward in `format`, all others in `compute`."""
    kitchen = host.quant_ops
    layout = kitchen.QUANT_ALGOS[format]["comfy_tensor_layout"]
    tensors: dict[str, Tensor] = {}
    for key, shape in part.shapes.items():
        if len(shape) == 2 and MATRICES.fullmatch(key) and not any(side % MULTIPLE for side in shape):
            matrix = kitchen.QuantizedTensor.from_float(part.fetch(key, dtype=torch.float32), layout, **OPTIONS[format])
            tensors |= matrix.state_dict(key)
            tensors[_mark_of(key)] = _mark({"format": format})
        else:
            tensors[key] = part.fetch(key, dtype=compute)
    return tensors


def as_stored(part: Part, compute: torch.dtype) -> dict[str, Tensor] | None:
    """Return the tensors of a file for the host's layers, with matrices in 8 or 4 bits as they are stored.

    None where the file has none in a format of the host. All other tensors are in `compute`.
    """
    known = known_formats()
    kept = {key: one for key, one in part.coded().items() if one[0].format in known and _is_taken(*one)}
    if not kept:
        return None
    tensors: dict[str, Tensor] = {}
    for key in part:
        if key not in kept:
            tensors[key] = part.fetch(key, dtype=compute)
            continue
        coding, stored = kept[key]
        tensors |= {f"{key.removesuffix('weight')}{word}": tensor for word, tensor in stored.items()}
        tensors[_mark_of(key)] = _mark({**coding.settings, "format": coding.format})
    return tensors


def is_rounded(unet: torch.nn.Module) -> bool:
    """Return whether a UNet has weights in 8 or 4 bits, in which comfy-kitchen computes."""
    return any(getattr(layer, "quant_format", None) for layer in unet.modules())


def place(unet: torch.nn.Module) -> None:
    """Let the host's layers of a UNet on the meta device take their weights where they are."""
    for layer in unet.modules():
        if hasattr(layer, "factory_kwargs"):
            layer.factory_kwargs["device"] = None


def _is_taken(coding: Any, stored: Mapping[str, Tensor]) -> bool:
    """Return whether the host's layers take this weight: a matrix, and in float8 with one scale, not one per row."""
    scale = stored.get("weight_scale")
    single = scale is not None and scale.numel() == 1
    return stored["weight"].ndim == 2 and (single or not coding.format.startswith("float8"))


def _mark_of(key: str) -> str:
    return f"{key.removesuffix('weight')}{MARK}"


def _mark(settings: Mapping[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)
