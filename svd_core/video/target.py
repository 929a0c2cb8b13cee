"""Where a clip goes: the kind of file its name asks for, and whether it can be written there."""

import os
from fractions import Fraction
from os import PathLike
from pathlib import Path

from PIL import Image

from ..files import check_writable
from .clip import MARK, parse_fps

FILE_KINDS = ("mp4", "webm", "webp", "gif")
FOLDER_KIND = "folder"
GIF_MOST_FPS = 50  # viewers slow frames shorter than 2 hundredths of a second down to 10 per second
FRAME_NAME = "frame_{:05d}.png"


def clip_kind(path: str | PathLike) -> str:
    """mp4, webm, webp or gif by suffix; "folder" (of PNG frames) without a suffix or with a slash at the end."""
    text = os.fspath(path)
    suffix = Path(text).suffix.lower().removeprefix(".")
    if text.endswith(("/", os.sep)) or not suffix:
        return FOLDER_KIND
    if suffix not in FILE_KINDS:
        kinds = ", ".join(f".{kind}" for kind in FILE_KINDS)
        raise ValueError(f"{text} asks for a .{suffix} file; use {kinds}, or a name without suffix for PNG frames")
    return suffix


def check_output(path: str | PathLike, *, fps: float | Fraction = 7, quality: int = 90) -> str:
    """Say early whether `write_clip` can write to `path`, before minutes of sampling: returns the kind of clip.

    Raises ValueError for an unknown suffix, a path that holds something else, or numbers that the kind does not take;
    OSError where nothing can be written.
    """
    kind = clip_kind(path)
    rate = parse_fps(fps)
    if kind == "gif" and rate > GIF_MOST_FPS:
        raise ValueError(f"fps {float(rate):g} is beyond gif's {GIF_MOST_FPS}; lower it, or use mp4 or webp")
    check_quality(quality)
    path = Path(path)
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


def check_quality(quality: int) -> None:
    """Raise ValueError for a quality outside 0 to 100."""
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 0 to 100; 90 is a good start")


def frame_files(folder: Path) -> list[Path]:
    """The numbered PNG frames of a folder, in order, starting at 0."""
    count = len(list(folder.glob("frame_*.png")))
    return [folder / FRAME_NAME.format(index) for index in range(count)]


def _is_ours(folder: Path) -> bool:
    """Whether a folder may be replaced: it is empty, or holds nothing but frames that carry our settings."""
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
