"""Check output paths up front: writable, and never overwriting an input or another output; write pages."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from PIL import Image

from ..files import check_writable, remove_leftovers, replacing
from ..video import check_output

PAGE_KINDS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
Paths = Mapping[str, str | PathLike | None]


def check_outputs(outputs: Paths, inputs: Paths) -> None:
    """Check the files that a command will write, before minutes of work.

    Both mappings go from the option that names a file to its path, or to None where the option was left out. What
    killed runs left in the folders of the outputs is removed. Raises ValueError where an output is also an input,
    another output or a folder, and OSError where it cannot be written.
    """
    read = {_resolved(path): name for name, path in inputs.items() if path is not None}
    written: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        path, place = Path(path), _resolved(path)
        if place in read:
            raise ValueError(f"{name} {path} would overwrite the file that {read[place]} reads; choose another name")
        if place in written:
            raise ValueError(f"{name} {path} would overwrite {written[place]}; choose another name")
        if path.is_dir():
            raise ValueError(f"{name} {path} is a folder; choose another name")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"folder {path.parent} of {name} does not exist; create it first")
        check_writable(path)
        written[place] = name
    for place in written:
        remove_leftovers(place.parent)


def check_clip(path: str | PathLike, *, fps: float, quality: int = 90) -> None:
    """Check an output that `write_clip` will write, and remove what killed runs left in its folder.

    Raises ValueError for a path or a number that the kind of clip does not take, OSError where it cannot be written.
    """
    check_output(path, fps=fps, quality=quality)
    remove_leftovers(Path(path).parent)


def check_page(option: str, path: str | PathLike) -> None:
    """Raise ValueError unless the name of a page ends in a suffix of PAGE_KINDS."""
    if Path(path).suffix.lower() not in PAGE_KINDS:
        raise ValueError(f"{option} must be a picture (got {path}); end its name in {', '.join(PAGE_KINDS)}")


def save_page(page: Image.Image, path: str | PathLike) -> None:
    """Write a picture whole or not at all, in the format of its suffix, one of PAGE_KINDS."""
    path = Path(path)
    with replacing(path) as temporary:
        page.save(temporary, format=PAGE_KINDS[path.suffix.lower()])


def _resolved(path: str | PathLike) -> Path:
    return Path(path).expanduser().resolve()
