"""Where a command writes: said to be impossible before the work, never over what it reads or writes besides; pages."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from PIL import Image

from ..files import check_writable, replacing

PAGE_KINDS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
Paths = Mapping[str, str | PathLike | None]


def check_outputs(outputs: Paths, inputs: Paths) -> None:
    """Check files that are to be written, before minutes of work. Both: option or what else names it -> path or None.

    ValueError where an output is also an input, another output or a folder; OSError where no file can be made there.
    """
    read = {_place(path): name for name, path in inputs.items() if path is not None}
    written: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        path, place = Path(path), _place(path)
        if place in read:
            raise ValueError(f"{name} {path} would be written over what {read[place]} reads; choose another name")
        if place in written:
            raise ValueError(f"{name} {path} would be written over {written[place]}; choose another name")
        if path.is_dir():
            raise ValueError(f"{name} {path} is a folder; choose another name")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"folder {path.parent} of {name} does not exist; create it first")
        check_writable(path)
        written[place] = name


def _place(path: str | PathLike) -> Path:
    return Path(path).expanduser().resolve()


def save_page(page: Image.Image, path: str | PathLike) -> None:
    """Write a picture, whole or not at all; the suffix, one of PAGE_KINDS, says which kind."""
    path = Path(path)
    with replacing(path) as temporary:
        page.save(temporary, format=PAGE_KINDS[path.suffix.lower()])
