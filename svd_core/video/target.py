"""Check the output of a clip before any work: the kind of file by its name, and whether it can be written."""

import os
from contextlib import suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path

from PIL import Image

from ..files import check_writable, write_error
from .clip import MARK, parse_fps

FILE_KINDS = ("mp4", "webm", "webp", "gif")
FOLDER_KIND = "folder"
GIF_MOST_FPS = 50  # viewers play frames shorter than 2 hundredths of a second at 10 fps
WINDOWS_FORBIDDEN = set('<>:"|?*') | {chr(code) for code in range(32)}
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(1, 10))}
FRAME_NAME = "frame_{:05d}.png"


def clip_kind(path: str | PathLike) -> str:
    """Return mp4, webm, webp or gif by the suffix, or "folder" (of PNG frames) without one or with a trailing slash."""
    text = os.fspath(path)
    suffix = Path(text).suffix.lower().removeprefix(".")
    if text.endswith(("/", os.sep)) or not suffix:
        return FOLDER_KIND
    if suffix not in FILE_KINDS:
        kinds = ", ".join(f".{kind}" for kind in FILE_KINDS)
        raise ValueError(f"{text} asks for a .{suffix} file; use {kinds}, or a name without suffix for PNG frames")
    return suffix


def check_output(path: str | PathLike, *, fps: float | Fraction = 7, quality: int = 90) -> str:
    """Check before sampling that `write_clip` can write to `path`, and return the kind of clip.

    Raises ValueError for an unknown suffix, a path that holds something else, or numbers that the kind does not
    support; OSError where nothing can be written.
    """
    kind = clip_kind(path)
    rate = parse_fps(fps)
    if kind == "gif" and rate > GIF_MOST_FPS:
        raise ValueError(f"fps {float(rate):g} is beyond gif's {GIF_MOST_FPS}; lower it, or use mp4 or webp")
    check_quality(quality)
    path = Path(path)
    check_name(path)
    parent = path.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"folder {parent} does not exist; create it first")
    if kind == FOLDER_KIND:
        if path.exists() and not _is_ours(path):
            raise ValueError(f"{path} exists and is not a folder of our frames; choose another name")
    elif path.is_dir():
        raise ValueError(f"{path} is a folder; choose another name")
    check_writable(path)
    return kind


def check_name(path: Path, *, windows: bool = os.name == "nt") -> None:
    """Raise ValueError or OSError for a file name that the system does not allow, such as one of too many bytes.

    On Windows a colon would write an invisible stream of another file.
    """
    if windows:
        wrong = sorted(WINDOWS_FORBIDDEN & set(path.name))
        if wrong or path.name[-1:] in (".", " ") or path.name.partition(".")[0].strip().lower() in WINDOWS_DEVICES:
            what = f"the character {wrong[0]!r}" if wrong else "this name"
            raise ValueError(f"{path.name} cannot be a file name: Windows does not allow {what}; choose another name")
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise write_error(path, error) from error


def check_quality(quality: int) -> None:
    """Raise ValueError for a quality outside 0 to 100."""
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 0 to 100; 90 is a good start")


def frame_files(folder: Path) -> list[Path]:
    """Return the numbered PNG frames of a folder in order, starting at 0."""
    count = len(list(folder.glob("frame_*.png")))
    return [folder / FRAME_NAME.format(index) for index in range(count)]


def _is_ours(folder: Path) -> bool:
    """Return whether a folder may be replaced: it is empty, or holds nothing but our own frames."""
    if not folder.is_dir():
        return False
    found = set(folder.iterdir())
    frames = frame_files(folder)
    if found != set(frames):
        return False
    for frame in frames[:1]:
        try:
            with Image.open(frame) as picture:
                return MARK in picture.info
        except OSError:
            return False
    return True
