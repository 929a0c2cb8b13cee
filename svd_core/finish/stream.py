"""The frames of a film one after the other: upscaled, sized, and those in between, never more than a few at a time."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pictures.fitting import resize
from ..pictures.reading import lay_out
from .between import frames_between

ENDINGS = ("open", "loop", "ping-pong")
MOST_FACTOR = 32

FrameStep = Callable[[Tensor], Tensor]
"""Makes of one frame [H, W, 3] in 0..1 another, such as an upscale model's."""

Between = Callable[[Tensor, Tensor, Sequence[float]], Iterator[Tensor]]
"""Gives the frames at times in 0..1 between two frames; each must depend on its own time only."""


@dataclass(frozen=True)
class Reel:
    """What a film is made of.

    source: frames [T, H, W, 3] in 0..1, or anything that gives [H, W, 3] by index. steps: what each of them goes
    through, in order. factor: steps from each frame to the next, 1 for none in between. ending: "open"; "loop" also
    goes from the last frame on to the first; "ping-pong" plays back to the second, so that both repeat without a jump.
    cuts: indices of frames that begin a new part, to which nothing leads over. limit: most frames of the film.
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
        """The way through the source: a frame, the frame it leads over to (None: nowhere), and whether backwards."""
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
        """Frames of the film."""
        whole = sum(1 if after is None else self.factor for _, after, _ in self.route())
        return whole if self.limit is None else min(whole, self.limit)

    def frames(self) -> Iterator[Tensor]:
        """The film's frames [H, W, 3], float32 on the CPU, as they are asked for."""
        left = self.count
        for frame in self._all():
            if left == 0:
                return
            left -= 1
            yield frame

    def _all(self) -> Iterator[Tensor]:
        kept = _Recent(self._made, 2)
        times = [step / self.factor for step in range(1, self.factor)]
        for index, after, backwards in self.route():
            yield kept[index]
            if after is None or not times:
                continue
            if backwards:
                # The same frames as forwards, so that the way back is the way there.
                yield from self.between(kept[after], kept[index], times[::-1])
            else:
                yield from self.between(kept[index], kept[after], times)

    def _made(self, index: int) -> Tensor:
        frame = lay_out(self.source[index][..., :3].float().cpu())
        for step in self.steps:
            frame = lay_out(step(frame))
        return frame


class _Recent:
    """The results of the last few calls, so that a frame is not made again for the pair behind it."""

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
    """All frames of a film [N, H, W, 3] at once, for films that fit in memory."""
    return torch.stack(list(reel.frames()))


RECENT = 0.3  # weight of the last part in the pace: upscalers warm up, and machines get other work
ROUNDING = ((3600, 60, "h", "min"), (60, 1, "min", "s"))


@dataclass(frozen=True)
class Stand:
    """How far a film is: frames `done` of `total`, and the seconds left, None while nothing is known."""

    done: int
    total: int
    seconds_left: float | None

    def text(self) -> str:
        """One line for people."""
        left = "" if self.seconds_left is None or self.done == self.total else f", {spoken(self.seconds_left)} left"
        return f"frame {self.done} of {self.total}{left}"


class Remaining:
    """Guesses the time left. `group` frames make a part (a frame and those up to the next): within a part, times differ
    by far, since the first frame carries the upscaling and the search for motion; from part to part they are alike.
    """

    def __init__(self, total: int, group: int, clock: Callable[[], float] = time.monotonic):
        self.total, self.group, self.clock = total, max(1, group), clock
        self.begin, self.counted, self.pace = clock(), 0, None

    def after(self, done: int) -> Stand:
        """The stand after `done` frames; to be called once a frame."""
        now = self.clock()
        if done - self.counted >= self.group:
            pace = (now - self.begin) / (done - self.counted)
            # The first frame belongs to no part, but has its share of the work.
            self.pace = pace if self.pace is None else (1 - RECENT) * self.pace + RECENT * pace
            self.begin, self.counted = now, done
        if self.pace is None:
            return Stand(done, self.total, None)
        return Stand(done, self.total, max(0.0, self.pace * (self.total - self.counted) - (now - self.begin)))


def spoken(seconds: float) -> str:
    """A time as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    for whole, part, large, small in ROUNDING:
        if seconds >= whole:
            return f"{seconds // whole} {large} {seconds % whole // part} {small}"
    return f"{seconds} s"


def watched(
    frames: Iterable[Tensor], total: int, group: int, on_frame: Callable[[Stand], None] | None
) -> Iterator[Tensor]:
    """The frames, with `on_frame` called after each is taken in; what it raises ends the film."""
    remaining = Remaining(total, group)
    for index, frame in enumerate(frames, 1):
        yield frame
        del frame
        if on_frame is not None:
            on_frame(remaining.after(index))


FITS = ("inside", "crop", "pad", "stretch")
SMALLEST, LARGEST = 16, 16384


@dataclass(frozen=True)
class FilmSize:
    """How frames of one size become those of a film: scaled to inner_width x inner_height, then cut to width x height,
    or laid on its centre.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int

    def apply(self, frame: Tensor) -> Tensor:
        """[H, W, 3] in 0..1 at the film's size, antialiased bicubic; untouched where it has that size already."""
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
    """The size of a film of from_width x from_height frames that is to be width x height (0: as the other side asks).

    inside: the aspect kept, no side longer than asked for. crop: filled, what stands over cut off. pad: black bars.
    stretch: distorted. Raises ValueError for sizes that no film has.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is unknown; use {', '.join(FITS)}")
    for name, side in (("width", width), ("height", height)):
        if side and not SMALLEST <= side <= LARGEST:
            raise ValueError(f"{name} {side} is outside {SMALLEST} to {LARGEST}; use 3840x2160 for 4K, or 0 to keep it")
    if not width and not height:
        return _exact(from_width, from_height)  # an odd side is repeated by the encoder, nothing is scaled for it
    scales = [asked / side for asked, side in ((width, from_width), (height, from_height)) if asked]
    if len(scales) == 1 or fit == "inside":
        scale = min(scales)
        return _exact(_even(from_width * scale), _even(from_height * scale))
    width, height = _even(width), _even(height)
    if fit == "stretch":
        return _exact(width, height)
    scale = max(scales) if fit == "crop" else min(scales)
    inner = [_even(side * scale) for side in (from_width, from_height)]
    if fit == "crop":
        inner = [max(inner[0], width), max(inner[1], height)]
    return FilmSize(width, height, *inner)


def _exact(width: int, height: int) -> FilmSize:
    return FilmSize(width, height, width, height)


def _even(side: float) -> int:
    return max(SMALLEST, 2 * round(side / 2))


def to_size(width: int = 0, height: int = 0, fit: str = "inside") -> Callable[[Tensor], Tensor]:
    """The step that brings any frame to a size, as `film_size` understands it."""
    film_size(SMALLEST, SMALLEST, width, height, fit)

    def step(frame: Tensor) -> Tensor:
        return film_size(frame.shape[1], frame.shape[0], width, height, fit).apply(frame)

    return step
