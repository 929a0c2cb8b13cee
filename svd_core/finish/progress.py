"""How far a film is, and how long the rest will take, from what its parts have taken so far."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

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
