"""Open pickled checkpoints (.ckpt, .pth, .bin) for `convert`, and nowhere else.

A pickle can run any code when it is opened. `torch.load(weights_only=True)` builds tensors and plain containers only
and refuses everything else; `mmap` maps the tensors instead of reading them. Nodes never open pickles: people convert a
file once, by a command that they typed, and use the safetensors file from then on.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.source import MOST_NAME, PICKLE_SUFFIXES, CheckpointError, MappedTensors
from ..files import printable

OLDEST_TORCH = (2, 6)  # before it, weights_only could be tricked into running code (CVE-2025-32434)
MOST_PROGRAM = 100_000_000  # bytes of the pickle itself, without tensors; SVD's takes 0.4 MB
MOST_REPEATS = 4  # how often over tensors may share the bytes of the file
# Entries that trainers put weights into, and the prefix that their tensors get.
ENTRIES = {
    "pose_encoder_state_dict": "pose_encoder.",
    "attention_processor_state_dict": "unet.",
    "state_dict": "",
    "module": "",
}
REMEDY = "use a safetensors file of the model"


def is_pickle(path: str | Path) -> bool:
    """Return whether a path has the name of a pickled checkpoint."""
    return Path(path).suffix.lower() in PICKLE_SUFFIXES


def open_pickle(path: str | Path) -> MappedTensors:
    """Return the tensors of a pickled checkpoint, mapped from disk, under the names that they have in it.

    The entry that holds the weights is chosen (`ENTRIES`); everything else, such as the state of an optimiser, is left
    out, and `metadata["svd.entry"]` says what was taken. Raises CheckpointError, one sentence, for every other file.
    """
    path = Path(path).expanduser()
    _check_archive(path)
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # weights_only names what it refused; any failure means that the file is not plain weights.
        reason = printable(str(error).partition("\n")[0].strip() or type(error).__name__, 200)
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged, and nothing in it was run ({reason}); {REMEDY}"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__} instead of named tensors; {REMEDY}")
    chosen = {entry: content[entry] for entry in ENTRIES if isinstance(content.get(entry), Mapping)}
    if chosen:
        tensors = {ENTRIES[entry] + name: value for entry, part in chosen.items() for name, value in _tensors(part)}
    else:
        tensors = dict(_tensors(content))
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors, only {_listed(content)}; {REMEDY}")
    _check_tensors(path, tensors)
    taken = ", ".join(chosen) or "the whole file"
    return MappedTensors(path, tensors, {"svd.entry": taken}, path.name)


def describe_pickle(opened: MappedTensors) -> str:
    """Return one line on what is taken out of a pickle."""
    return f"{opened.name}: {len(opened)} tensors ({opened.size:,} bytes) from {opened.metadata['svd.entry']}"


def _tensors(entry: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the named tensors of an entry, without the prefix of parallel training."""
    for name, value in entry.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            yield name.removeprefix("module."), value.detach()


def _listed(content: Mapping[Any, Any]) -> str:
    names = [printable(name) for name in list(content)[:3]]
    return f"{', '.join(names)} and {len(content) - 3} more" if len(content) > 3 else ", ".join(names) or "nothing"


def _check_archive(path: Path) -> None:
    """Raise CheckpointError unless the file is an archive as torch writes it, with its tensors stored as they are."""
    if torch.torch_version.TorchVersion(torch.__version__) < OLDEST_TORCH:
        raise CheckpointError(
            f"{path} is a pickle, which torch {torch.__version__} cannot open safely; update torch to 2.6 or newer"
        )
    if not path.is_file():
        raise CheckpointError(f"there is no model at {path}; check the name")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        raise CheckpointError(
            f"{path} is not an archive of torch 1.6 or newer but an older pickle, or it is truncated; download it "
            f"again, or {REMEDY}"
        ) from None
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path} has compressed parts, which torch never writes; {REMEDY}")
        if member.filename.endswith(".pkl") and member.file_size > MOST_PROGRAM:
            raise CheckpointError(
                f"{path} has a pickle of {member.file_size:,} bytes; at most {MOST_PROGRAM:,} are read, so {REMEDY}"
            )


def _check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for tensors that are not plain, have endless names, or claim more bytes than the file."""
    total, most = 0, MOST_REPEATS * path.stat().st_size
    for name, tensor in tensors.items():
        if len(name) > MOST_NAME:
            raise CheckpointError(f"{path} has a tensor with a name of {len(name):,} characters; {REMEDY}")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            raise CheckpointError(f"'{printable(name)}' of {path} is not a plain tensor; {REMEDY}")
        total += tensor.numel() * tensor.element_size()
        if total > most:
            raise CheckpointError(
                f"{path} describes more than {most:,} bytes of tensors in a file of {path.stat().st_size:,}; {REMEDY}"
            )
