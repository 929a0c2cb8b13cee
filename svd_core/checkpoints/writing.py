"""Write safetensors files tensor by tensor, so that a conversion never holds a second copy of the weights.

The library's own `save_file` needs all tensors in memory at once. Files are byte for byte those that it writes,
except where types of one size meet: the library sorts those by type first, this module by name.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Tensor

from ..files import replacing
from .source import STORED_NAMES, CheckpointError

ALIGNMENT = 8  # bytes of the end of the header, as the library writes it


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is made when it is written: its type, its shape, and the function that makes it."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def write_tensors(
    path: str | PathLike,
    tensors: Mapping[str, Tensor | LazyTensor],
    metadata: Mapping[str, str],
    on_tensor: Callable[[], None] = lambda: None,
) -> None:
    """Replace `path` by a safetensors file; each lazy tensor is made, written and freed before the next one.

    on_tensor: called after every tensor; what it raises ends the writing. The file takes its name only when it is
    whole and on the disk. Raises OSError where it cannot be written.
    """
    # Wide types first, then by name: every tensor is aligned, and equal models make equal files.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        dtype, shape = tensors[name].dtype, list(tensors[name].shape)
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": STORED_NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(_bytes(name, tensors[name]))
            on_tensor()


def _bytes(name: str, tensor: Tensor | LazyTensor) -> memoryview:
    if isinstance(tensor, LazyTensor):
        made = tensor.make()
        if made.dtype != tensor.dtype or tuple(made.shape) != tensor.shape:
            raise CheckpointError(
                f"'{name}' became {made.dtype} {list(made.shape)} instead of {tensor.dtype} {list(tensor.shape)}"
            )
        tensor = made
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
