"""Read clips: one reader for video files, animations and folders of pictures, whoever made them.

A `Clip` opens a file by its header and yields upright frames with square pixels in BT.709 / sRGB, one at a time.
`read_clip` returns all of them at once.
"""

import logging
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..files import MOST_PATH, printable
from .clip import MARK, Settings, parse_settings
from .decoding import EncodedClip, comment_of
from .frames import UNREADABLE, Clip, reading
from .media import open_input
from .picture_clips import ANIMATED_SUFFIXES, AnimatedClip, FolderClip, frames_in, text_of

log = logging.getLogger("svd_reel")


def open_clip(path: str | PathLike, *, background: str = "white") -> Clip:
    """Open a clip file or a folder of pictures; read only what its size and frame rate need.

    background: a colour name or "#rrggbb", over which transparent frames are composited. What is unusual about the
    file, such as interlaced or missing frames, goes to the log. Raises FileNotFoundError, or ValueError for a file
    without frames that can be shown.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"clip {printable(path, MOST_PATH)} does not exist; check the path")
    kind = FolderClip if path.is_dir() else AnimatedClip if path.suffix.lower() in ANIMATED_SUFFIXES else EncodedClip
    with reading(path):
        clip = kind(path, background)
    for note in clip.notes:
        log.warning("%s: %s", path.name, note)
    return clip


def read_clip(path: str | PathLike, *, background: str = "white") -> tuple[Tensor, float, dict[str, Any]]:
    """Return all frames of a clip [T, H, W, 3] in 0..1, its frames per second, and its settings; see `open_clip`.

    The settings are those given to `write_clip`, {} for files from elsewhere. Frames per second are 0.0 where the file
    has no rate, and an average where it varies. Raises FileNotFoundError, or ValueError for a file without frames.
    """
    with open_clip(path, background=background) as clip:
        frames = [frame for frame in clip]  # list(clip) would ask for the length, which decodes the file once more
        return torch.stack(frames), float(clip.fps), clip.metadata


def read_settings(path: str | PathLike) -> dict[str, Any]:
    """Return the settings of a clip without decoding it, {} for clips from elsewhere and for other files."""
    path = Path(path)
    try:
        if path.is_dir():
            return _first(frames_in(path)).metadata
        if path.suffix.lower() in ANIMATED_SUFFIXES:
            return _first([path]).metadata
        with open_input(path) as container:
            return parse_settings(comment_of(container)).metadata
    except UNREADABLE:
        return {}


def _first(files: Iterable[Path]) -> Settings:
    """Return the settings inside the first of some pictures."""
    for file in files:
        with Image.open(file) as picture:
            return parse_settings(text_of(picture, MARK))
    return Settings({})
