"""The frames of a film one after the other: upscaled, sized, and those in between, never more than a few at a time."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        frame = self.source[index][..., :3].float().cpu()
        for step in self.steps:
            frame = step(frame)
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
