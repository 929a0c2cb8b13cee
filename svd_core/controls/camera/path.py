"""Camera paths: moves one after the other ("then") or at once ("and"), for clips of any length.

A path is a function from time to the parameters of `poses.PARAMETERS`. All start at 0, so frame 0 shows the picture
itself. Parameters add up, so a move continues from where the one before it ended.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .poses import PARAMETERS, Poses, angle_of, poses_of

EASINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda t: t,
    "ease": lambda t: t * t * (3 - 2 * t),
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
}
"""Progress of a move over its time: constant, or slow at both ends, at the start, at the end."""

SHAKE_CYCLES = (0.043, 0.11, 0.19)  # per frame: breath, hand and step, at about 7 frames per second
SHAKE_PARTS = (1.0, 0.5, 0.25)


class Part(Protocol):
    """A part of a path."""

    @property
    def share(self) -> float:
        """Time relative to the other parts of a chain."""

    @property
    def text(self) -> str:
        """The part in words."""

    def table(self, when: Tensor, length: float) -> Tensor:
        """Return parameters [T, len(PARAMETERS)] at times `when` [T] in 0..1 of a part of `length` frames."""


@dataclass(frozen=True)
class Move:
    """A change of some parameters, as pairs (name, amount), eased over its time."""

    change: tuple[tuple[str, float], ...]
    easing: str = "linear"
    share: float = 1.0
    text: str = "static"

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part."""
        return EASINGS[self.easing](when)[:, None] * _row(self.change)


@dataclass(frozen=True)
class Hold:
    """A number of frames in which the camera stands still."""

    frames: int
    text: str = "hold"
    share = 0.0

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part."""
        return torch.zeros(len(when), len(PARAMETERS), dtype=torch.float64)


@dataclass(frozen=True)
class Shake:
    """The sway of a hand-held camera: pan and tilt of about `amount` picture widths, and a little roll."""

    amount: float
    share: float = 1.0
    text: str = "handheld"
    seed: int = 7

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part. The pace of the sway does not depend on the length of the part."""
        source = torch.Generator().manual_seed(self.seed)
        phases = torch.rand(3, len(SHAKE_CYCLES), generator=source, dtype=torch.float64) * 2 * math.pi
        cycles, parts = (torch.tensor(values, dtype=torch.float64) for values in (SHAKE_CYCLES, SHAKE_PARTS))
        turns = 2 * math.pi * cycles * (when * length)[:, None, None] + phases  # [T, 3, waves]
        sway = ((turns.sin() - phases.sin()) * parts).sum(-1) * angle_of(self.amount)  # [T, 3]
        return sum(sway[:, i, None] * _row(((name, 1.0),)) for i, name in enumerate(("pan", "tilt", "roll")))


@dataclass(frozen=True)
class Through:
    """A smooth path through points, relative to the first of them.

    times: when each point is reached, rising in 0..1 of the path's time; empty spreads the points evenly.
    """

    points: tuple[tuple[tuple[str, float], ...], ...]
    easing: str = "linear"
    share: float = 1.0
    text: str = "through points"
    times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(
                f"a camera path through points needs at least 2 (got {len(self.points)}); add where the camera ends"
            )

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part. A Catmull-Rom spline: the direction at each point is that between its neighbours."""
        rows = torch.stack([_row(point) for point in self.points])  # [N, P]
        rows = rows - rows[0]
        if self.times:
            return _through_times(rows, torch.tensor(self.times, dtype=torch.float64), EASINGS[self.easing](when))
        padded = torch.cat([2 * rows[:1] - rows[1:2], rows, 2 * rows[-1:] - rows[-2:-1]])
        place = EASINGS[self.easing](when) * (len(rows) - 1)
        index = place.floor().clamp(max=len(rows) - 2).long()
        t = (place - index)[:, None]
        a, b, c, d = (padded[index + k] for k in range(4))
        return b + t / 2 * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))


def _through_times(rows: Tensor, times: Tensor, when: Tensor) -> Tensor:
    """Return cubic interpolation [T, P] of rows [N, P] reached at `times` [N], at `when` [T]; it never overshoots.

    The slope at each point is the harmonic mean of its neighbours' slopes, and 0 at a turning point (Fritsch-Butland).
    """
    spans = (times[1:] - times[:-1])[:, None]  # [N - 1, 1]
    slopes = (rows[1:] - rows[:-1]) / spans
    before, after = slopes[:-1], slopes[1:]
    same = before * after > 0
    inner = torch.where(same, 2 * before * after / torch.where(same, before + after, 1.0), 0.0)
    tangents = torch.cat([slopes[:1], inner, slopes[-1:]])  # [N, P]
    when = when.clamp(times[0], times[-1])
    index = (torch.searchsorted(times, when.contiguous(), right=True) - 1).clamp(0, len(rows) - 2)
    span, t = spans[index], ((when - times[index])[:, None]) / spans[index]
    first, last = rows[index], rows[index + 1]
    out, into = tangents[index] * span, tangents[index + 1] * span
    rise = last - first
    return first + t * (out + t * (3 * rise - 2 * out - into + t * (out + into - 2 * rise)))


@dataclass(frozen=True)
class Chain:
    """Parts one after the other."""

    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """See Part."""
        return sum(part.share for part in self.parts)

    @property
    def text(self) -> str:
        """See Part."""
        return " then ".join(part.text for part in self.parts)

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part. Holds take their frames; the other parts share the rest."""
        held = held_frames(self)
        share = self.share
        if share > 0 and held >= length:
            raise ValueError(
                f"the camera path holds still for {held} frames of {math.floor(length) + 1}, which leaves no time to "
                f"move; hold at most {max(0, math.floor(length) - 1)}"
            )
        total, start = torch.zeros(len(when), len(PARAMETERS), dtype=torch.float64), 0.0
        for part in self.parts:
            own = held_frames(part)
            own += (length - held) * part.share / share if part.share > 0 else 0
            if own > 0:
                total = total + part.table(((when * length - start) / own).clamp(0, 1), own)
            start += own
        return total


@dataclass(frozen=True)
class Together:
    """Parts at the same time."""

    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """See Part."""
        return max(part.share for part in self.parts)

    @property
    def text(self) -> str:
        """See Part."""
        return ", ".join(f"({part.text})" if isinstance(part, Chain) else part.text for part in self.parts)

    def table(self, when: Tensor, length: float) -> Tensor:
        """See Part."""
        return sum(part.table(when, length) for part in self.parts)


@dataclass(frozen=True)
class CameraPath:
    """A whole path, for clips of any length and pictures of any size."""

    part: Part

    @property
    def text(self) -> str:
        """The path in words."""
        return self.part.text

    def then(self, other: "CameraPath") -> "CameraPath":
        """Return this path followed by the other; the moves divide the time by their shares."""
        return CameraPath(Chain((*_parts(self.part, Chain), *_parts(other.part, Chain))))

    def also(self, other: "CameraPath") -> "CameraPath":
        """Return both paths at the same time, each over the whole clip."""
        return CameraPath(Together((*_parts(self.part, Together), *_parts(other.part, Together))))

    def table(self, frames: int) -> Tensor:
        """Return the parameters of a clip: [frames, len(PARAMETERS)], float64; row 0 is all 0."""
        if frames < 1:
            raise ValueError(f"a camera path needs at least 1 frame (got {frames}); use 14 or 25")
        if frames == 1:
            return torch.zeros(1, len(PARAMETERS), dtype=torch.float64)
        return self.part.table(torch.linspace(0, 1, frames, dtype=torch.float64), float(frames - 1))

    def poses(self, frames: int) -> Poses:
        """Return the camera poses of a clip."""
        return poses_of(self.table(frames))


def path_through(
    points: Sequence[Sequence[float]],
    *,
    easing: str = "linear",
    share: float = 1.0,
    text: str = "through points",
    times: Sequence[float | None] = (),
) -> CameraPath:
    """Return a path that looks at `points` one after the other.

    points: (x, y), (x, y, zoom) or (x, y, zoom, roll). x and y are picture widths right and down, zoom is a factor,
    roll is in degrees clockwise. times: when each point is reached, in 0..1 of the path's time; None is evenly between
    its neighbours, and no times at all spread the points evenly. Raises ValueError for fewer than two points, for a
    zoom of 0 or below, and for times that do not rise.
    """
    rows = []
    for number, point in enumerate(points, 1):
        if not 2 <= len(point) <= 4 or not all(math.isfinite(value) for value in point):
            raise ValueError(
                f"point {number} of the camera path is {tuple(point)}; write x y, x y zoom, or x y zoom roll"
            )
        x, y, zoom, roll = (*point, *(1.0, 0.0)[len(point) - 2 :])
        if zoom <= 0:
            raise ValueError(
                f"the zoom of point {number} of the camera path must be above 0 (got {zoom:g}); use 0.8 to 1.5"
            )
        angles = {"pan": angle_of(x), "tilt": -angle_of(y), "zoom": math.log(zoom), "roll": math.radians(roll)}
        rows.append(tuple(angles.items()))
    return CameraPath(Through(tuple(rows), easing, share, text, _even_times(times)))


def _even_times(times: Sequence[float | None]) -> tuple[float, ...]:
    """Return times with the missing ones evenly between their neighbours; () if all are missing."""
    if all(time is None for time in times):
        return ()
    known = dict(enumerate(times))
    known[0] = 0.0 if known[0] is None else known[0]
    known[len(times) - 1] = 1.0 if times[-1] is None else times[-1]
    places = [place for place, time in known.items() if time is not None]
    filled = [known[0]]
    for left, right in zip(places[:-1], places[1:], strict=True):
        step = (known[right] - known[left]) / (right - left)
        filled += [known[left] + step * k for k in range(1, right - left)] + [known[right]]
    for number, (before, time) in enumerate(zip((-1e-9, *filled[:-1]), filled, strict=True), 1):
        if not before + 1e-9 <= time <= 1:
            raise ValueError(
                f"point {number} of the camera path is at {100 * time:g} %; times must rise from 0 to 100 %, such as "
                "at 40%"
            )
    return tuple(filled)


def held_frames(part: Part) -> int:
    """Return the number of frames that a part holds still."""
    if isinstance(part, Hold):
        return part.frames
    if isinstance(part, Chain):
        return sum(held_frames(inner) for inner in part.parts)
    return max((held_frames(inner) for inner in part.parts), default=0) if isinstance(part, Together) else 0


def _parts(part: Part, kind: type) -> tuple[Part, ...]:
    """Return the parts of a chain or group of that kind, or else the part alone."""
    return part.parts if isinstance(part, kind) else (part,)


def _row(change: tuple[tuple[str, float], ...]) -> Tensor:
    """Return a row [len(PARAMETERS)] of parameters, float64."""
    row = torch.zeros(len(PARAMETERS), dtype=torch.float64)
    for name, value in change:
        row[PARAMETERS.index(name)] = value
    return row
