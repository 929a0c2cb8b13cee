"""The state of a run on disk: one safetensors file with tensors and a JSON record, replaced whole or not at all."""

import glob
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.errors import CheckpointError
from ..checkpoints.source import TYPES, TensorSource, read_header
from ..video.target import replacing, write_error

STATE_FILE = "state.safetensors"
RECORD = "training"  # name of the JSON text in the file's metadata
NAMES = {dtype: name for name, dtype in TYPES.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file tensor by tensor, without a second copy of them in memory.

    The file takes its name only when it is whole and on the disk. Raises OSError with one sentence where that fails;
    what was there before is then untouched.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # large types first: all aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                file.write(_bytes_of(tensors[name]))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def write_state(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the state of the run in `folder`."""
    write_tensors(folder / STATE_FILE, tensors, {RECORD: json.dumps(record)})


def read_state(folder: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]] | None:
    """Return tensors (mapped from the file: copy them) and the record, or None where no run was begun.

    Raises ValueError where the file is damaged.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        header = read_header(path)
        record = json.loads(header.metadata[RECORD])
    except (CheckpointError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no state of a training run ({error}); delete it to begin anew") from error
    return TensorSource(path, [header], header.metadata, path.name), record


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove what a run that was killed while it wrote left in a folder: unfinished files, of `name` or of any name."""
    for path in folder.glob(f".{glob.escape(name)}*.part"):
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder where there is none; OSError with one sentence where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def fingerprint(frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> str:
    """A short text that tells one base model from another: the names, types and first numbers of frozen weights, the
    names and shapes of those that are trained.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in frozen.items():
        digest.update(f"{name} {parameter.dtype}".encode())
        digest.update(_bytes_of(parameter.detach().reshape(-1)[:16]))
    for name, parameter in trained.items():
        digest.update(f"{name} {list(parameter.shape)}".encode())
    return digest.hexdigest()
