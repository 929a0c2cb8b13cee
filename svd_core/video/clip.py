"""What every kind of clip file shares: its settings text, timing, and frames as bytes."""

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from PIL import Image
from torch import Tensor

# The key that tells our settings from any other text in a file.
MARK = "svd_reel"


@dataclass(frozen=True)
class ClipOptions:
    """How a clip is written: frames per second, size of its frames, settings, quality 0..100, whether it repeats."""

    fps: Fraction
    width: int
    height: int
    metadata: dict[str, Any]
    quality: int
    loop: bool

    @property
    def text(self) -> str:
        """The settings as one ASCII line of JSON, with what the container cannot hold exactly: frame rate and size."""
        return settings_text(self.metadata, self.fps, self.width, self.height)


def settings_text(metadata: dict[str, Any], fps: Fraction, width: int, height: int) -> str:
    """JSON that `parse_settings` takes back; raises ValueError for metadata that JSON cannot hold."""
    try:
        return json.dumps({MARK: metadata, "fps": str(fps), "size": [width, height]})
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata cannot be written as JSON ({error}); give plain numbers, texts and lists") from None


@dataclass(frozen=True)
class Settings:
    """What a file says of itself; all empty for a file that is not ours."""

    metadata: dict[str, Any]
    fps: Fraction | None = None
    size: tuple[int, int] | None = None


def parse_settings(text: str | bytes | None) -> Settings:
    """Read the text of `settings_text`; any other text gives empty settings."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        content = json.loads(text or "")
        return Settings(content[MARK], Fraction(content["fps"]), tuple(content["size"]))
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return Settings({})


def parse_fps(fps: float | Fraction) -> Fraction:
    """Frames per second as a fraction; 7.5 is 15/2, 23.976 is 2997/125. Raises ValueError outside 0.01..1000."""
    try:
        rate = Fraction(fps).limit_denominator(1001)
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"fps {fps} is not a number; use 1 to 60") from None
    if not Fraction(1, 100) <= rate <= 1000:
        raise ValueError(f"fps {fps} is outside 0.01 to 1000; use 1 to 60")
    return rate


def frame_times(fps: Fraction, ticks_per_second: int, index: int) -> int:
    """How many ticks frame `index` is shown, so that rounding never adds up over the clip."""
    start, end = (round(Fraction(i) * ticks_per_second / fps) for i in (index, index + 1))
    return end - start


def to_pil(frame: Tensor) -> Image.Image:
    """[H, W, 3] in 0..1 to an 8-bit RGB image."""
    return Image.fromarray((frame * 255).round().to(torch.uint8).numpy())
