"""Safetensors files as mappings of tensors, and the refusal of every other kind of file.

`read_header` is the only reader of headers. It checks a file before the safetensors library opens it, because the
library gives no remedy for a pickle, a web page or a file that was cut off. `TensorSource` then
reads tensors through the library's `safe_open`, which maps the file and copies nothing.

This module handles files, types and bytes. What the tensors mean is decided in `parts`.
"""

import difflib
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files import parse_json, printable

FLOAT_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
INTEGER_TYPES = {
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    # Torch has had these three since 2.3.
    **{f"U{bits}": getattr(torch, f"uint{bits}") for bits in (16, 32, 64) if hasattr(torch, f"uint{bits}")},
}
# Powers of two, for the scales of mxfp8 weights only.
SCALE_TYPES = {"F8_E8M0": torch.float8_e8m0fnu} if hasattr(torch, "float8_e8m0fnu") else {}
TYPES = FLOAT_TYPES | INTEGER_TYPES | SCALE_TYPES | {"BOOL": torch.bool}
STORED_NAMES = {dtype: name for name, dtype in TYPES.items()}
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
MOST_HEADER = 20_000_000  # bytes; the header of SVD-XT takes 0.3 MB
LIBRARY_HEADER = 100_000_000  # bytes; the limit of the safetensors library
MOST_DIMENSIONS = 16
MOST_NAME = 1000  # characters
RELEASED_AFTER = 2**28  # bytes that are read to be cast before the file is mapped anew
FOREIGN_STARTS = (
    (b"version https://git-lfs", "a git-lfs pointer, not weights", "run `git lfs pull`, or download the file itself"),
    (b"<", "a web page, not weights", "the download needs a login or another link; download the file itself"),
    (b"GGUF", "a GGUF file", "use the safetensors file of the model"),
    (b"{", "a JSON text, not weights", "give the .safetensors file or the folder of the model"),
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why, with numbers, and what to do."""


class Entry(NamedTuple):
    """One tensor of a header: safetensors type name, shape, first byte in the file, bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


@dataclass(frozen=True)
class Header:
    """The header of one safetensors file; `size` is that of the whole file in bytes."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]
    size: int


class TensorSource(Mapping[str, Tensor]):
    """Tensors of a checkpoint (one file, shards, or the parts of a folder), mapped from disk when asked for.

    `shapes`, `dtypes` (safetensors names) and `metadata` come from the headers. A tensor is a private mapping of the
    file: nothing is copied, and writing to the tensor does not reach the disk.
    """

    def __init__(self, path: Path, headers: Sequence[Header], metadata: Mapping[str, str], name: str) -> None:
        self.path, self.headers, self.metadata, self.name = path, tuple(headers), dict(metadata), name
        self._headers: dict[str, Header] = {}
        self._mapped: dict[Path, Any] = {}
        self._passing: dict[Path, Any] = {}
        self._passed = 0  # bytes
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
        return self._read(key, self._mapped)

    def fetch(self, key: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Return one tensor on `device` as `dtype` (None = as stored).

        A tensor that is stored that way already stays mapped; every other one is copied. What is only read to be
        copied does not stay in memory: a float32 file that is cast to float16 takes half of its size.
        """
        entry = self._headers[key].entries[key]
        if (device is None or torch.device(device).type == "cpu") and dtype in (None, TYPES.get(entry.dtype)):
            return self._read(key, self._mapped)
        # Pages of a mapping stay in memory as long as the mapping does, so it is dropped from time to time.
        self._passed += entry.size
        if self._passed > RELEASED_AFTER:
            self._passing, self._passed = {}, entry.size
        return self._read(key, self._passing).to(device="cpu" if device is None else device, dtype=dtype, copy=True)

    def _read(self, key: str, opened: dict[Path, Any]) -> Tensor:
        header = self._headers[key]
        entry = header.entries[key]
        if entry.dtype not in TYPES:
            raise CheckpointError(
                f"'{printable(key)}' of {header.path} is stored as {printable(entry.dtype)}; "
                "use a file with float tensors"
            )
        try:
            if header.path not in opened:
                opened[header.path] = safe_open(header.path, framework="pt")
            tensor = opened[header.path].get_tensor(key)
        except (OSError, RuntimeError, MemoryError) as error:
            raise CheckpointError(
                f"{header.path} ({header.size:,} bytes) cannot be mapped into memory ({printable(error)}); "
                "close other programs, or use the fp16 file of the model"
            ) from error
        except SafetensorError as error:
            raise damaged(header.path, error) from error
        # Files of old writers are not aligned, and most kernels need that.
        return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class MappedTensors(TensorSource):
    """Tensors that something else has mapped already, with the interface of a file on disk."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> None:
        self._tensors = dict(tensors)
        entries = {}
        for key, tensor in tensors.items():
            size = tensor.numel() * tensor.element_size()
            entries[key] = Entry(STORED_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), 0, size)
        total = sum(entry.size for entry in entries.values())
        super().__init__(path, [Header(path, entries, dict(metadata), total)], metadata, name)

    def _read(self, key: str, opened: dict[Path, Any]) -> Tensor:
        return self._tensors[key]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file and check it against the size of the file; reads no tensor.

    Raises CheckpointError for everything that is not a whole safetensors file.
    """
    reject_other_files(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        text = file.read(length) if length <= size - 8 else b""
    if not text:
        raise _truncated(path, size, 8 + length)
    try:
        raw = parse_json(text, most_bytes=MOST_HEADER)
        if not isinstance(raw, dict):
            raise ValueError("it is not a JSON object")
        metadata = raw.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a JSON object")
        entries, end = _entries(raw, 8 + length)
    except ValueError as error:
        raise damaged(path, error) from error
    expected = 8 + length + end
    if size < expected:
        raise _truncated(path, size, expected)
    if size > expected:
        raise CheckpointError(f"{path} is {size:,} bytes but its header describes {expected:,}; download it again")
    return Header(path, entries, {key: str(value) for key, value in metadata.items()}, size)


def _entries(raw: Mapping[str, Any], start: int) -> tuple[dict[str, Entry], int]:
    """Return the tensors of a header and the bytes of their data; ValueError where they do not fill it in order."""
    found = {key: _entry(key, value, start) for key, value in raw.items()}
    end = start
    for begin, size, key in sorted((entry.begin, entry.size, key) for key, entry in found.items()):
        if begin != end:
            raise ValueError(
                f"'{printable(key)}' begins at byte {begin - start}, the tensor before it ends at {end - start}"
            )
        end += size
    return found, end - start


def _entry(key: str, raw: Any, start: int) -> Entry:
    if len(key) > MOST_NAME:
        raise ValueError(f"a tensor has a name of {len(key):,} characters, '{printable(key)}'")
    fields = raw if isinstance(raw, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape, offsets) or len(offsets) != 2:
        raise ValueError(f"the entry of '{printable(key)}' is not a type, a shape and two offsets")
    size = offsets[1] - offsets[0]
    known = TYPES.get(dtype)
    if size < 0 or (known is not None and math.prod(shape) * known.itemsize != size):
        raise ValueError(f"'{printable(key)}', {printable(dtype)} {printable(shape)} does not fill {size} bytes")
    return Entry(dtype, tuple(shape), start + offsets[0], size)


def _are_sizes(shape: Any, offsets: Any) -> bool:
    # Without a loop, because a header has ten thousand of these numbers.
    if type(shape) is not list or type(offsets) is not list or len(shape) > MOST_DIMENSIONS:
        return False
    sizes = shape + offsets
    return not sizes or (set(map(type, sizes)) == {int} and min(sizes) >= 0 and max(sizes) <= 2**63)


def damaged(path: Path, error: object) -> CheckpointError:
    """Return the error for a header that makes no sense."""
    return CheckpointError(f"the safetensors header of {path} is damaged ({printable(error, 200)}); download it again")


def _truncated(path: Path, size: int, expected: int) -> CheckpointError:
    return CheckpointError(f"{path} is truncated: {size:,} bytes of {expected:,} are there; download it again")


def reject_other_files(path: Path) -> None:
    """Raise CheckpointError unless the first bytes of a file may begin a safetensors file."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    (length,) = struct.unpack("<Q", start[:8].ljust(8, b"\0"))
    if path.suffix.lower() not in PICKLE_SUFFIXES and length <= LIBRARY_HEADER and start[8:9] == b"{":
        if length > MOST_HEADER:
            raise CheckpointError(
                f"{path} has a header of {length:,} bytes; at most {MOST_HEADER:,} are read, so use another file"
            )
        return
    pickled = start[:4] == b"PK\3\4" or (start[:1] == b"\x80" and start[1:2] <= b"\5")
    if pickled or path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{path} is a pickle, which can run any code when opened, so only .safetensors is read; convert it once, "
            f'with python -m svd_core convert "{path.name}" "{path.stem}.safetensors"'
        )
    for magic, what, remedy in FOREIGN_STARTS:
        if start.lstrip().startswith(magic):
            raise CheckpointError(f"{path} is {what}; {remedy}")
    if len(start) < 9 or start.strip(b"\0") == b"":
        raise CheckpointError(f"{path} is truncated: {path.stat().st_size:,} bytes without a header; download it again")
    raise CheckpointError(f"{path} is not a safetensors file (it has no header); give a .safetensors file or a folder")


def missing_path(path: Path) -> CheckpointError:
    """Return the error for a path that does not exist, with what is near it."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".safetensors" or entry.is_dir())
    weights = [name for name in names if name.endswith(".safetensors")]
    # Without their endings, which would make any two names alike.
    stems = {Path(name).stem: name for name in names}
    close = [stems[stem] for stem in difflib.get_close_matches(path.stem, stems, n=1)]
    if folder != path.parent:
        near = f"the nearest folder that exists is {folder}, holding {some(names) if names else 'no model'}"
    else:
        near = f"{folder} holds {some(weights) if weights else 'no .safetensors file'}"
    remedy = f"did you mean {close[0]}?" if close else "check the name, or download the model into that folder"
    return CheckpointError(f"there is no model at {path}; {near}; {remedy}")


def some(names: Iterable[str], count: int = 3) -> str:
    """Return the first `count` names in order as text, with the number of the others."""
    names = sorted(names)
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(printable(name) for name in names[:count]) + rest
