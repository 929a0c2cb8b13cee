"""The interface of an open clip: its header, and its frames in order or by index."""

from abc import abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image
from torch import Tensor

from ..pictures import composite
from ..pictures.reading import BROKEN

UNTIMED_FPS = 7  # frames per second of clips that have no rate, as SVD's own clips are played
EVEN = 0.25  # of an interval, by which time stamps may be off before the frame rate counts as variable
# Bytes and number of decoded frames that are kept for reading backwards. A decoder keeps up to a megabyte for each
# besides its pixels.
MOST_RECENT, MOST_KEPT = 2**26, 24
MOST_PIXELS = 2**26  # of a frame, twice 8K: a header of a few bytes may ask for any size

UNREADABLE = (av.FFmpegError, Image.DecompressionBombError, *BROKEN)
"""What FFmpeg and Pillow raise for damaged files."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ValueError with one sentence for what FFmpeg and Pillow raise about a damaged file."""
    try:
        yield
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"clip {path} cannot be read ({reason}); it may be cut short, or not a clip") from error


def check_pixels(path: Path, width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Raise ValueError for a file whose frames have too many pixels to be read."""
    if width * height > most:
        raise ValueError(
            f"clip {path} has frames of {width}x{height}, {width * height:,} pixels; at most {most:,} are read, so "
            "make it smaller first"
        )


class Clip(Sequence[Tensor]):
    """An open clip: a sequence of frames [height, width, 3] in 0..1, each read when it is needed.

    width, height: of the frames as they are shown. fps: frames per second, an average where they vary; 0 if unknown.
    metadata: the settings given to `write_clip`, {} for clips from elsewhere. notes: what is unusual about the file.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    metadata: dict[str, Any]
    notes: list[str]

    @abstractmethod
    def timed(self) -> Iterator[tuple[float, Callable[[], Tensor]]]:
        """Yield the second at which each frame is shown, and a function that returns the frame.

        The function is valid until the next frame is asked for; frames that nobody needs are not converted.
        """

    @property
    @abstractmethod
    def header_frames(self) -> int:
        """Number of frames by the file's header, without decoding; 0 if the header has none."""

    @cached_property
    def times(self) -> list[float]:
        """The second at which each frame is shown, from 0; decodes the whole clip once."""
        times = [seconds for seconds, _ in self.timed()]
        return [seconds - times[0] for seconds in times]

    @property
    def seconds(self) -> float:
        """Duration; the last frame is shown as long as the one before it."""
        if len(self.times) == 1:
            return 1 / float(self.fps or UNTIMED_FPS)
        return 2 * self.times[-1] - self.times[-2]

    @property
    def steady_fps(self) -> float:
        """Frames per second of the shortest usual interval: the rate of a clip whose rate varies."""
        gaps = sorted(after - before for before, after in zip(self.times, self.times[1:], strict=False))
        gap = gaps[len(gaps) // 10] if gaps else 0.0
        return 1 / gap if gap > 0 else float(self.fps)

    @property
    def usual_fps(self) -> float:
        """Frames per second for cutting training clips; one long frame of an animation does not change them."""
        return float(self.fps)

    @property
    def is_even(self) -> bool:
        """Whether the frames are shown at equal intervals."""
        rate = float(self.fps)
        return not rate or all(abs(seconds - index / rate) <= EVEN / rate for index, seconds in enumerate(self.times))

    def at_rate(self, fps: float) -> Sequence[Tensor]:
        """Return the clip at a constant rate: frames are repeated or skipped, and the duration stays."""
        count = max(1, round(self.seconds * fps))
        return _Chosen(self, [bisect_right(self.times, (index + 1e-3) / fps) - 1 for index in range(count)])

    def __iter__(self) -> Iterator[Tensor]:
        for _, read in self.timed():
            yield read()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; the clip may be read again."""


class _Chosen(Sequence[Tensor]):
    """Frames of a clip by a list of indices."""

    def __init__(self, clip: Clip, indices: list[int]):
        self.clip, self.indices = clip, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.clip[self.indices[index]]


class Recent(OrderedDict):
    """The most recently decoded frames by index: MOST_KEPT, or as many as fit in MOST_RECENT bytes."""

    def __init__(self, bytes_per_frame: int):
        super().__init__()
        self.most = max(4, min(MOST_KEPT, MOST_RECENT // max(1, bytes_per_frame)))

    def add(self, index: int, frame: Any) -> None:
        """Keep a frame, and drop the oldest beyond the limit."""
        self[index] = frame
        while len(self) > self.most:
            self.popitem(last=False)


def opaque(frame: Tensor, background: str) -> Tensor:
    """Return a frame [H, W, 3 | 4] in 0..1 without alpha, over `background`."""
    return frame if frame.shape[-1] == 3 else composite(frame[None], background)[0]


def check_index(index: int, count: int) -> int:
    """Return a valid index, counted from the end if negative; raise IndexError for others."""
    if not -count <= index < count:
        raise IndexError(index)
    return index % count


def stretched(frame: Tensor, width: int, height: int) -> Tensor:
    """Return a frame [H, W, C] in 0..1 resized by antialiased bicubic interpolation."""
    planes = frame.movedim(-1, 0)[None]
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return resized[0].movedim(0, -1).clamp(0, 1).contiguous()
