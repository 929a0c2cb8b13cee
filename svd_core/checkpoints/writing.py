"""Write safetensors files tensor by tensor."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .source import TYPES, CheckpointError

TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}
ALIGNMENT = 8  # bytes of the header's end, as the library writes it


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: its type, its shape, and what makes it when its turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path,
    tensors: Mapping[str, Planned],
    metadata: Mapping[str, str],
    on_tensor: Callable[[], None] = lambda: None,
) -> None:
    """Write a safetensors file; each tensor is made, written and let go before the next. `path` is written directly."""
    # Wide types first, then by name: every tensor is aligned, and equal models make equal files.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        entry = tensors[name]
        header[name] = {
            "dtype": TYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, position + entry.size],
        }
        position += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            entry = tensors[name]
            tensor = entry.make().contiguous()
            if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
                raise CheckpointError(f"'{name}' became {tensor.dtype} {list(tensor.shape)}, not as planned")
            file.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
            del tensor
            on_tensor()
