"""Tensors on disk: safetensors headers, lazily mapped tensors, refusal of everything else.

Knows files and bytes, nothing of what the tensors mean.
"""

import difflib
import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why, with numbers, and what to do."""


FLOAT_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
TYPES = FLOAT_TYPES | {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
MAPPED_AROUND = 2**21  # bytes; the most that Linux maps at once around a place that is read
LONGEST_HEADER = 100_000_000  # bytes; the safetensors library's own bound
FOREIGN_STARTS = (
    (b"version https://git-lfs", "a git-lfs pointer, not weights", "run `git lfs pull`, or download the file itself"),
    (b"<", "a web page, not weights", "the download needs a login or another link; download the file itself"),
    (b"GGUF", "a GGUF file", "use the safetensors file of the model"),
    (b"{", "a JSON text, not weights", "give the .safetensors file or the folder of the model"),
)


@dataclass(frozen=True)
class Entry:
    """One tensor of a header: safetensors type name, shape, first byte in the file, bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


@dataclass(frozen=True)
class Header:
    """Header of one safetensors file, with the file's size in bytes."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]
    size: int


class TensorSource(Mapping[str, Tensor]):
    """Tensors of a checkpoint (one file, shards, or a folder's parts), mapped from disk when asked for.

    `shapes`, `dtypes` (safetensors names) and `metadata` come from the headers. A tensor that is asked for is a private
    mapping of the file: no copy is made, and writing to it does not reach the disk.
    """

    def __init__(self, path: Path, headers: Sequence[Header], metadata: Mapping[str, str], name: str) -> None:
        self.path, self.headers, self.metadata, self.name = path, tuple(headers), dict(metadata), name
        self._headers: dict[str, Header] = {}
        self._mapped: dict[Path, torch.UntypedStorage] = {}
        self._passing: dict[Path, mmap.mmap] = {}
        for header in headers:
            twice = self._headers.keys() & header.entries.keys()
            if twice:
                raise CheckpointError(
                    f"{path} holds {len(twice)} tensors twice ({some(twice)}), last in {header.path.name}; "
                    "keep only one copy of the weights in the folder"
                )
            self._headers |= dict.fromkeys(header.entries, header)

    @property
    def entries(self) -> dict[str, Entry]:
        """Header entry of every tensor."""
        return {key: header.entries[key] for key, header in self._headers.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, from the headers."""
        return {key: header.entries[key].shape for key, header in self._headers.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """Safetensors type name of every tensor, from the headers."""
        return {key: header.entries[key].dtype for key, header in self._headers.items()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(header.size for header in self.headers)

    def __getitem__(self, key: str) -> Tensor:
        header = self._headers[key]
        entry = header.entries[key]
        dtype = TYPES.get(entry.dtype)
        if dtype is None:
            raise CheckpointError(f"'{key}' of {header.path} is stored as {entry.dtype}; use a file with float tensors")
        if entry.size == 0:
            return torch.empty(entry.shape, dtype=dtype)
        data = self._map(header)[entry.begin : entry.begin + entry.size]  # a view with a storage of its own
        if entry.begin % dtype.itemsize:  # old writers did not align the data, and torch cannot view it in place
            data = data.clone()
        return torch.empty(0, dtype=dtype).set_(data).view(entry.shape)

    def fetch(self, key: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """One tensor on `device` as `dtype` (None = as stored); mapped where that is what is stored, else a copy.

        What is only read to be copied does not stay in memory: cast to half, a file takes half of its size.
        """
        header = self._headers[key]
        entry = header.entries[key]
        stored, device = TYPES.get(entry.dtype), torch.device("cpu" if device is None else device)
        if stored is None or entry.size == 0 or (device.type == "cpu" and dtype in (None, stored)):
            return self[key].to(device)
        if header.path not in self._passing:
            with header.path.open("rb") as file:
                self._passing[header.path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        memory = self._passing[header.path]
        data = torch.frombuffer(memory, dtype=torch.uint8, count=entry.size, offset=entry.begin)
        if entry.begin % stored.itemsize:
            data = data.clone()
        tensor = data.view(stored).view(entry.shape).to(device=device, dtype=dtype, copy=True)
        if hasattr(memory, "madvise"):  # not on Windows, which takes such pages back by itself
            begin = entry.begin // MAPPED_AROUND * MAPPED_AROUND
            end = -(-(entry.begin + entry.size) // MAPPED_AROUND) * MAPPED_AROUND
            memory.madvise(mmap.MADV_DONTNEED, begin, min(end, len(memory)) - begin)
        return tensor

    def _map(self, header: Header) -> torch.UntypedStorage:
        if header.path not in self._mapped:
            try:
                storage = torch.UntypedStorage.from_file(str(header.path), False, header.size)
            except (OSError, RuntimeError) as error:
                raise CheckpointError(
                    f"{header.path} ({header.size:,} bytes) cannot be mapped into memory ({error}); "
                    "close other programs, or use the fp16 file of the model"
                ) from error
            self._mapped[header.path] = storage
        return self._mapped[header.path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def read_header(path: Path) -> Header:
    """Header of a safetensors file, checked against the file's size; reads no tensor.

    Raises CheckpointError for everything that is not a whole safetensors file.
    """
    refuse_foreign(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        text = file.read(length) if length <= size - 8 else b""
    if not text:
        raise truncated(path, size, 8 + length)
    try:
        raw = json.loads(text)
        metadata = raw.pop("__metadata__", None) or {}
        entries = {key: _entry(value, 8 + length) for key, value in raw.items()}
        end = max((value["data_offsets"][1] for value in raw.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"the safetensors header of {path} is damaged ({error}); download it again") from error
    expected = 8 + length + end
    if size < expected:
        raise truncated(path, size, expected)
    if size > expected:
        raise CheckpointError(f"{path} is {size:,} bytes but its header describes {expected:,}; download it again")
    return Header(path, entries, {str(key): str(value) for key, value in metadata.items()}, size)


def _entry(raw: dict[str, Any], start: int) -> Entry:
    shape, (begin, end) = tuple(int(n) for n in raw["shape"]), raw["data_offsets"]
    dtype = TYPES.get(raw["dtype"])
    if begin < 0 or end < begin or min(shape, default=0) < 0:
        raise ValueError(f"offsets {begin} to {end}, shape {list(shape)}")
    if dtype is not None and math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{raw['dtype']} {list(shape)} does not fill {end - begin} bytes")
    return Entry(raw["dtype"], shape, start + begin, end - begin)


def truncated(path: Path, size: int, expected: int) -> CheckpointError:
    """The error for a file that ends too early (sizes in bytes)."""
    return CheckpointError(f"{path} is truncated: {size:,} bytes of {expected:,} are there; download it again")


def refuse_foreign(path: Path) -> None:
    """Raise CheckpointError unless the first bytes may start a safetensors file."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    (length,) = struct.unpack("<Q", start[:8].ljust(8, b"\0"))
    if path.suffix.lower() not in PICKLE_SUFFIXES and length <= LONGEST_HEADER and start[8:9] == b"{":
        return
    pickled = start[:4] == b"PK\3\4" or (start[:1] == b"\x80" and start[1:2] <= b"\5")
    if pickled or path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{path} is a pickle, which can run any code when opened, so only .safetensors is read; convert it once: "
            f"`safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), '{path.stem}.safetensors')`, "
            "taking the entry 'state_dict' if there is one"
        )
    for magic, what, remedy in FOREIGN_STARTS:
        if start.lstrip().startswith(magic):
            raise CheckpointError(f"{path} is {what}; {remedy}")
    if len(start) < 9 or start.strip(b"\0") == b"":
        raise CheckpointError(f"{path} is truncated: {path.stat().st_size:,} bytes without a header; download it again")
    raise CheckpointError(f"{path} is not a safetensors file (it has no header); give a .safetensors file or a folder")


def missing_path(path: Path) -> CheckpointError:
    """The error for a path that does not exist, with what is near it."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".safetensors" or entry.is_dir())
    weights = [name for name in names if name.endswith(".safetensors")]
    close = difflib.get_close_matches(path.name, names, n=1)
    if folder != path.parent:
        near = f"the nearest folder that exists is {folder}, holding {some(names) if names else 'no model'}"
    else:
        near = f"{folder} holds {some(weights) if weights else 'no .safetensors file'}"
    remedy = f"did you mean {close[0]}?" if close else "check the name, or download the model into that folder"
    return CheckpointError(f"there is no model at {path}; {near}; {remedy}")


def some(names: Any, count: int = 3) -> str:
    """The first `count` of the names in order, as text, with the number of the rest."""
    names = sorted(names)
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
