"""Matrices that ComfyUI stores in 8 or 4 bits: which formats there are, and how each becomes float again.

Beside `weight` such a layer has scales, and `comfy_quant`: JSON as bytes, such as {"format": "nvfp4"}. Files of
converters hold the same settings of all layers in their metadata under `_quantization_metadata`. Files from before
ComfyUI 0.3.70 have `scale_weight` and no settings; they are float8.

Source: the files that ComfyUI 0.33 with comfy-kitchen 0.2.31 writes and reads. There the layers keep these formats
(`nodes/host/quantised.py`); everywhere else they are decoded.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..files import JsonError, parse_json, printable
from .names import Shape
from .source import some

METADATA = "_quantization_metadata"
MARK = "comfy_quant"
MOST_MARK = 4096  # bytes of the settings of one layer
FLOAT8, INT8, NVFP4, MXFP8 = "float8_e4m3fn", "int8_tensorwise", "nvfp4", "mxfp8"
STORED = {
    FLOAT8: torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    INT8: torch.int8,
    NVFP4: torch.uint8,
    MXFP8: torch.float8_e4m3fn,
}
"""The formats that are decoded here, and the dtype in which each stores a matrix."""

SCALES = {"scale_weight": "weight_scale", "weight_scale": "weight_scale", "weight_scale_2": "weight_scale_2"}
"""Last word of the name of a scale -> what it is called today."""

BLOCKS = {NVFP4: 16, MXFP8: 32}
"""Neighbours in a row that share a scale."""

# The eight magnitudes of 4 bits, e2m1, and the same below zero.
FOUR_BITS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
FOUR_BITS = torch.cat([FOUR_BITS, -FOUR_BITS])
TILE = (128, 4)  # rows and columns of the tiles in which the scales of blocks are stored


@dataclass(frozen=True)
class Coding:
    """How one matrix is stored: its format, the stored names of its scales, and the other settings of the layer.

    scales: `weight_scale` and `weight_scale_2` -> stored name. extra: the same for tensors that only ComfyUI uses.
    """

    format: str = FLOAT8
    scales: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, stored: Shape) -> Shape:
        """Return the shape of the matrix whose bytes have the shape `stored`: NVFP4 has two numbers in a byte."""
        return (stored[0], 2 * stored[1]) if self.format == NVFP4 and len(stored) == 2 else stored

    @property
    def rotation(self) -> int:
        """Columns that were rotated together before rounding to int8; 0 for none."""
        inner = self.settings.get("params")
        given = {**(inner if isinstance(inner, dict) else {}), **self.settings}
        return given.get("convrot_groupsize", 256) if self.format == INT8 and given.get("convrot") else 0

    def problem(self, stored: Shape, scales: Mapping[str, Shape]) -> str | None:
        """Return what does not fit, in a few words, given the shapes of the matrix and of its scales; else None."""
        if self.format not in STORED:
            return f"the format {printable(self.format)}, which is not known here"
        if self.format not in BLOCKS:
            size = math.prod(scales.get("weight_scale", (1,)))
            if size not in (1, math.prod(stored[:1])):
                return f"scales {list(scales['weight_scale'])}, neither one number nor one for each row"
            group = self.rotation
            if group and (len(stored) != 2 or not _is_rotation(group) or stored[1] % group):
                return f"rotated groups of {printable(group)}, which do not divide its columns"
            return None
        shape, block = self.shape(stored), BLOCKS[self.format]
        if len(shape) != 2 or shape[1] % block:
            return f"the shape {list(shape)}, whose rows have no blocks of {block}"
        needed = math.prod(
            -(-side // tile) * tile for side, tile in zip((shape[0], shape[1] // block), TILE, strict=True)
        )
        if math.prod(scales.get("weight_scale", ())) != needed:
            return f"scales {list(scales.get('weight_scale', ()))} instead of {needed} for its blocks of {block}"
        if self.format == NVFP4 and math.prod(scales.get("weight_scale_2", (0,))) != 1:
            return "no single weight_scale_2"
        return None

    def decode(self, weight: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
        """Return the matrix in float32 of its stored bytes and scales."""
        scale = scales.get("weight_scale")
        if self.format == NVFP4:
            codes = torch.stack([weight >> 4, weight & 15], dim=-1).flatten(-2)  # the first of two in the upper bits
            values = FOUR_BITS.to(weight.device)[codes.int()]
            return _by_blocks(values, _viewed(scale, torch.float8_e4m3fn), 16) * scales["weight_scale_2"].float()
        if self.format == MXFP8:
            return _by_blocks(weight.float(), _viewed(scale, torch.float8_e8m0fnu), 32)
        values = weight.float()
        if scale is not None:
            factor = scale.float()
            values = values * (factor.reshape(-1, *[1] * (weight.ndim - 1)) if factor.numel() > 1 else factor)
        return _turned(values, self.rotation) if self.rotation else values


def read_codings(
    shapes: Mapping[str, Shape], metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the settings of the layers of a checkpoint, by the stored names of the layers, and problems as sentences.

    Of `tensors` only the marks are read, which are a few bytes each.
    """
    found: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    if METADATA in metadata:
        layers = _object(metadata[METADATA], len(metadata[METADATA]))
        layers = (layers or {}).get("layers")
        if not isinstance(layers, dict) or not all(isinstance(value, dict) for value in layers.values()):
            return {}, [f"the metadata {METADATA} lists no layers; use a file as ComfyUI saves it"]
        found |= layers
    for key in (key for key in shapes if key.endswith(f".{MARK}")):
        if math.prod(shapes[key]) > MOST_MARK:
            wrong.append(key)
            continue
        mark = tensors[key]
        if mark.is_meta:
            continue
        settings = _object(bytes(mark.flatten().to(torch.uint8).tolist()), MOST_MARK)
        if settings is None:
            wrong.append(key)
        else:
            found[key.removesuffix(f".{MARK}")] = settings
    return found, [_sentence(wrong, "no settings in JSON")] if wrong else []


def coding_of(settings: Mapping[str, Any] | None, tensors: Mapping[str, str]) -> Coding:
    """Return the coding of a layer with these settings (None: of an old file) and these scales (last word -> name)."""
    scales = {SCALES[word]: name for word, name in tensors.items() if word in SCALES}
    extra = {word: name for word, name in tensors.items() if word not in SCALES}
    settings = settings or {}
    return Coding(str(settings.get("format", FLOAT8)), scales, extra, settings)


def coding_problems(coded: Iterable[tuple[str, Coding, Shape, Mapping[str, Shape]]]) -> list[str]:
    """Return sentences on weights (stored name, coding, shape, shapes of scales) that cannot be decoded."""
    found: dict[str, list[str]] = {}
    for name, coding, shape, scales in coded:
        problem = coding.problem(shape, scales)
        if problem is not None:
            found.setdefault(problem, []).append(name)
    return [_sentence(names, problem) for problem, names in found.items()]


def _sentence(names: list[str], problem: str) -> str:
    return (
        f"{len(names)} weights in 8 or 4 bits ({some(names)}) have {problem}; use a file with fp8, int8, mxfp8 or "
        "nvfp4 weights as ComfyUI saves them, or with fp16"
    )


def _object(text: str | bytes, most: int) -> dict[str, Any] | None:
    try:
        value = parse_json(text, most_bytes=most)
    except JsonError:
        return None
    return value if isinstance(value, dict) else None


def _viewed(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return scales that may be stored as bytes, in float32."""
    return (scale.view(dtype) if scale.dtype == torch.uint8 else scale).float()


def _by_blocks(values: Tensor, scales: Tensor, block: int) -> Tensor:
    """Return values [N, K] times one of `scales` for each `block` neighbours.

    The scales are stored in tiles of 128 rows and 4 columns; in a tile, rows 0, 32, 64 and 96 come first, which is what
    the matrix units of GPUs read.
    """
    rows, columns = values.shape[0], values.shape[1] // block
    tiles = -(-columns // TILE[1])
    plain = rearrange(scales.flatten(), "(r c low high x) -> (r high low) (c x)", c=tiles, low=32, high=4, x=TILE[1])[
        :rows, :columns
    ]
    return (values.reshape(rows, columns, block) * plain[..., None]).flatten(1)


def _is_rotation(group: Any) -> bool:
    """Return whether there is a rotation of this many columns: a power of 4, up to 4096."""
    return group in tuple(4**power for power in range(1, 7))


def _turned(values: Tensor, group: int) -> Tensor:
    """Return values [N, K] with each `group` columns rotated by the regular Hadamard matrix, its own inverse."""
    four = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], device=values.device) / 2
    matrix = four
    while len(matrix) < group:
        matrix = torch.kron(matrix, four)
    return (values.unflatten(1, (-1, group)) @ matrix).flatten(1)
