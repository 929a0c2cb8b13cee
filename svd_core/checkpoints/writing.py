"""Safetensors files written tensor by tensor, under a temporary name until they are whole."""

import json
import math
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def taking_the_place_of(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` for a file or folder, which takes its place at the end or is removed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"cannot write {path} ({error.strerror or error}); free space or choose another folder"
            ) from error
        raise
