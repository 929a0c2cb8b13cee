"""Stream the frames of a film: read, processed, resized and interpolated one by one, with the remaining time.

A `Reel` describes the film and yields its frames; only a few are in memory at a time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..flow.between import frames_between
from ..pictures.fitting import resize
from ..pictures.reading import lay_out

ENDINGS = ("open", "loop", "ping-pong")
FITS = ("inside", "crop", "pad", "stretch")
MOST_FACTOR = 32
SMALLEST, LARGEST = 16, 16384  # pixels per side of a film
RECENT = 0.3  # weight of the latest group in the average pace: upscalers warm up, and machines get other work

FrameStep = Callable[[Tensor], Tensor]
"""Processes a frame [H, W, 3] in 0..1, for example with an upscale model."""

Between = Callable[[Tensor, Tensor, Sequence[float]], Iterator[Tensor]]
"""Yields the frames at times in 0..1 between two frames. Each frame may depend only on its own time."""


@dataclass(frozen=True)
class Reel:
    """Description of a film.

    source: frames [T, H, W, 3] in 0..1, or any sequence that returns [H, W, 3] by index.
    steps: applied to each source frame, in order. factor: steps from each frame to the next; 1 adds no frames.
    between: interpolates frames. ending: "open"; "loop" also leads from the last frame to the first; "ping-pong" plays
    back to the second frame, so that both repeat without a jump.
    cuts: indices of frames that start a new scene; nothing is interpolated across them. limit: most frames of the film.
    """

    source: Sequence[Tensor] | Tensor
    steps: tuple[FrameStep, ...] = ()
    factor: int = 1
    between: Between = frames_between
    ending: str = "open"
    cuts: frozenset[int] = frozenset()
    limit: int | None = None

    def __post_init__(self) -> None:
        if len(self.source) < 1:
            raise ValueError("a film needs at least 1 frame; 0 were given")
        if not 1 <= self.factor <= MOST_FACTOR:
            raise ValueError(f"interpolation factor {self.factor} is outside 1 to {MOST_FACTOR}; use 1 for none")
        if self.ending not in ENDINGS:
            raise ValueError(f"ending {self.ending!r} is unknown; use {', '.join(ENDINGS)}")

    def route(self) -> Iterator[tuple[int, int | None, bool]]:
        """Yield the order of the source frames: each index, the next one (None: a cut or the end), and if backwards."""
        last = len(self.source) - 1
        for index in range(last):
            yield index, None if index + 1 in self.cuts else index + 1, False
        if self.ending == "loop" and last > 0:
            yield last, 0, False
            return
        yield last, None if self.ending == "open" or last == 0 or last in self.cuts else last - 1, True
        if self.ending == "ping-pong":
            for index in range(last - 1, 0, -1):
                yield index, None if index in self.cuts else index - 1, True

    @property
    def count(self) -> int:
        """Number of frames of the film."""
        whole = sum(1 if after is None else self.factor for _, after, _ in self.route())
        return whole if self.limit is None else min(whole, self.limit)

    def frames(self) -> Iterator[Tensor]:
        """Yield the frames [H, W, 3] of the film, float32 on the CPU."""
        left = self.count
        for frame in self._all():
            if left == 0:
                return
            left -= 1
            yield frame

    def _all(self) -> Iterator[Tensor]:
        kept = _Recent(self._processed, 2)
        times = [step / self.factor for step in range(1, self.factor)]
        for index, after, backwards in self.route():
            yield kept[index]
            if after is None or not times:
                continue
            if backwards:
                # The pair in forward order, so that both directions show the same frames.
                yield from self.between(kept[after], kept[index], times[::-1])
            else:
                yield from self.between(kept[index], kept[after], times)

    def _processed(self, index: int) -> Tensor:
        frame = lay_out(self.source[index][..., :3].float().cpu())
        for step in self.steps:
            frame = lay_out(step(frame))
        return frame


class _Recent:
    """Cache of the most recent results of a function, so that a frame is not processed again for its next pair."""

    def __init__(self, make: Callable[[int], Tensor], most: int):
        self.make, self.most = make, most
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def __getitem__(self, index: int) -> Tensor:
        if index not in self._kept:
            while len(self._kept) >= self.most:
                self._kept.popitem(last=False)
            self._kept[index] = self.make(index)
        self._kept.move_to_end(index)
        return self._kept[index]


def batch_of(reel: Reel) -> Tensor:
    """Return all frames of a film as one batch [N, H, W, 3], for films that fit in memory."""
    return torch.stack(list(reel.frames()))


@dataclass(frozen=True)
class FilmSize:
    """How frames of one size become those of a film, in pixels.

    Frames are resized to inner_width x inner_height, then cropped to the centre of width x height, or centred on black.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int

    def apply(self, frame: Tensor) -> Tensor:
        """Return a frame [H, W, 3] in 0..1 at the film's size, by antialiased bicubic interpolation."""
        planes = lay_out(frame).movedim(-1, 0)[None]
        planes = resize(planes, self.inner_width, self.inner_height)[0]
        left, top = (self.inner_width - self.width) // 2, (self.inner_height - self.height) // 2
        if left > 0 or top > 0:
            planes = planes[:, max(top, 0) : max(top, 0) + self.height, max(left, 0) : max(left, 0) + self.width]
        if left < 0 or top < 0:
            height, width = planes.shape[1:]
            canvas = torch.zeros(3, self.height, self.width, dtype=planes.dtype)
            y, x = (self.height - height) // 2, (self.width - width) // 2
            canvas[:, y : y + height, x : x + width] = planes
            planes = canvas
        return lay_out(planes.movedim(0, -1))


def film_size(from_width: int, from_height: int, width: int = 0, height: int = 0, fit: str = "inside") -> FilmSize:
    """Return the size of a film of width x height pixels made of from_width x from_height frames (0: by the aspect).

    fit: "inside" keeps the aspect with no side longer than asked for. "crop" fills the size and crops what exceeds it.
    "pad" adds black bars. "stretch" distorts. Raises ValueError for sizes outside 16..16384.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is unknown; use {', '.join(FITS)}")
    for name, side in (("width", width), ("height", height)):
        if side and not SMALLEST <= side <= LARGEST:
            raise ValueError(f"{name} {side} is outside {SMALLEST} to {LARGEST}; use 3840x2160 for 4K, or 0 to keep it")
    if not width and not height:
        return _unchanged(from_width, from_height)  # the encoder repeats an odd side, so nothing is resized
    scales = [asked / side for asked, side in ((width, from_width), (height, from_height)) if asked]
    if len(scales) == 1 or fit == "inside":
        scale = min(scales)
        return _unchanged(_even(from_width * scale), _even(from_height * scale))
    width, height = _even(width), _even(height)
    if fit == "stretch":
        return _unchanged(width, height)
    scale = max(scales) if fit == "crop" else min(scales)
    inner = [_even(side * scale) for side in (from_width, from_height)]
    if fit == "crop":
        inner = [max(inner[0], width), max(inner[1], height)]
    return FilmSize(width, height, *inner)


def _unchanged(width: int, height: int) -> FilmSize:
    """Return a size without crop and bars."""
    return FilmSize(width, height, width, height)


def _even(side: float) -> int:
    return max(SMALLEST, 2 * round(side / 2))


def to_size(width: int = 0, height: int = 0, fit: str = "inside") -> FrameStep:
    """Return the step that resizes frames of any size by `film_size`; raise ValueError for an invalid size."""
    film_size(SMALLEST, SMALLEST, width, height, fit)

    def step(frame: Tensor) -> Tensor:
        return film_size(frame.shape[1], frame.shape[0], width, height, fit).apply(frame)

    return step


@dataclass(frozen=True)
class FilmProgress:
    """Progress of a film: frames `done` of `total`, and the seconds left, None until they can be estimated."""

    done: int
    total: int
    seconds_left: float | None

    def text(self) -> str:
        """Return the progress as one line."""
        known = self.seconds_left is not None and self.done < self.total
        left = f", {format_duration(self.seconds_left)} left" if known else ""
        return f"frame {self.done} of {self.total}{left}"


class RemainingTime:
    """Estimates the time left of a film of `total` frames.

    `group` frames, a source frame and those up to the next, are timed together: the first of them carries the upscaling
    and the motion estimation, so single frames differ by far while groups take about the same time.
    """

    def __init__(self, total: int, group: int, clock: Callable[[], float] = time.monotonic):
        self.total, self.group, self.clock = total, max(1, group), clock
        self.begin, self.counted, self.pace = clock(), 0, None

    def after(self, done: int) -> FilmProgress:
        """Return the progress after `done` frames; call it once per frame."""
        now = self.clock()
        if done - self.counted >= self.group:
            pace = (now - self.begin) / (done - self.counted)
            self.pace = pace if self.pace is None else (1 - RECENT) * self.pace + RECENT * pace
            self.begin, self.counted = now, done
        if self.pace is None:
            return FilmProgress(done, self.total, None)
        return FilmProgress(done, self.total, max(0.0, self.pace * (self.total - self.counted) - (now - self.begin)))


def format_duration(seconds: float) -> str:
    """Return a duration as 45 s, 3 min 20 s or 2 h 5 min."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    if seconds >= 60:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds} s"


def with_progress(
    frames: Iterable[Tensor], total: int, group: int, on_frame: Callable[[FilmProgress], None] | None
) -> Iterator[Tensor]:
    """Yield the frames and call `on_frame` after each is consumed; an exception that it raises ends the film."""
    remaining = RemainingTime(total, group)
    for index, frame in enumerate(frames, 1):
        yield frame
        del frame
        if on_frame is not None:
            on_frame(remaining.after(index))
