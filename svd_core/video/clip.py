"""What all kinds of clip files share: the settings embedded as text, timing, and frames as 8-bit pictures."""

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..files import JsonError, parse_json

MARK = "svd_reel"
"""The key that distinguishes our settings from other texts in a file."""

# Limits of settings that are read from a file, which anybody may have edited.
MOST_TEXT = 2**20  # characters
MOST_DEPTH = 16  # of nested lists and objects
RATE = re.compile(r"[1-9][0-9]{0,6}(/[1-9][0-9]{0,6})?")  # as str(Fraction) writes a positive one
LARGEST = 32768  # pixels


@dataclass(frozen=True)
class ClipOptions:
    """How a clip is written: frame rate, frame size, settings, quality 0..100, and whether it repeats."""

    fps: Fraction
    width: int
    height: int
    metadata: dict[str, Any]
    quality: int
    loop: bool

    @property
    def text(self) -> str:
        """The settings as one line of ASCII JSON, with the exact frame rate and size, which containers may round."""
        return settings_text(self.metadata, self.fps, self.width, self.height)


def settings_text(metadata: dict[str, Any], fps: Fraction, width: int, height: int) -> str:
    """Return the text that `parse_settings` reads; raise ValueError for metadata that JSON cannot hold."""
    try:
        return json.dumps({MARK: metadata, "fps": str(fps), "size": [width, height]})
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata cannot be written as JSON ({error}); use plain numbers, texts and lists") from None


@dataclass(frozen=True)
class Settings:
    """Settings embedded in a file; empty for files from elsewhere. They are notes: the file itself may have changed.

    fault: what was wrong with them, "" for nothing; then they are empty.
    """

    metadata: dict[str, Any]
    fps: Fraction | None = None
    size: tuple[int, int] | None = None
    fault: str = ""


def parse_settings(text: str | bytes | None) -> Settings:
    """Read the text of `settings_text`. Other texts give empty settings, damaged ones the fault."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or MARK not in text[:MOST_TEXT]:
        return Settings({})
    try:
        content = parse_json(text, most_bytes=MOST_TEXT, most_depth=MOST_DEPTH + 1)
        metadata, fps, size = content[MARK], content["fps"], content["size"]
    except JsonError as error:
        return Settings({}, fault=f"they are not the JSON that this program writes ({error})")
    except (KeyError, TypeError):
        return Settings({}, fault="they lack what this program writes")
    if not isinstance(metadata, dict):
        return Settings({}, fault="they are not one object")
    if not isinstance(fps, str) or not RATE.fullmatch(fps):
        return Settings({}, fault="their frame rate is not a positive number")
    sides_are_whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    if not sides_are_whole or not all(1 <= side <= LARGEST for side in size):
        return Settings({}, fault="their size is not two whole numbers of pixels")
    return Settings(metadata, Fraction(fps), tuple(size))


def parse_fps(fps: float | Fraction) -> Fraction:
    """Return frames per second as a fraction: 7.5 is 15/2, 23.976 is 2997/125. Raises ValueError outside 0.01..1000."""
    try:
        rate = Fraction(fps).limit_denominator(1001)
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"fps {fps} is not a number; use 1 to 60") from None
    if not Fraction(1, 100) <= rate <= 1000:
        raise ValueError(f"fps {fps} is outside 0.01 to 1000; use 1 to 60")
    return rate


def frame_times(fps: Fraction, ticks_per_second: int, index: int) -> int:
    """Return for how many ticks frame `index` is shown; the rounding does not add up over the clip."""
    start, end = (round(Fraction(i) * ticks_per_second / fps) for i in (index, index + 1))
    return end - start


def to_pil(frame: Tensor) -> Image.Image:
    """Return a frame [H, W, 3] in 0..1 as an 8-bit RGB picture."""
    return Image.fromarray((frame * 255).round().to(torch.uint8).numpy())
