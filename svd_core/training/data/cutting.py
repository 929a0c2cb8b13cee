"""From a stream of frames to clips: the wanted frame rate, no cut of scene inside a clip, the training size.

Works on one frame at a time, so that a film of any length needs the memory of one clip. Knows no files and no models.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pictures import check_size, fit

USUAL_FPS = 7.0  # what SVD's own clips are played at; the network is told one less
LOOK = 48  # pixels a side of the small frame that scene cuts are looked for in
BINS = 8  # of a histogram, per colour
CUT = 0.35  # share of a quarter's pixels that change their bin, above which a jump may be a cut
CUT_RATIO = 3.0  # times the usual change of the shot, so that lively footage is not cut to pieces
MEMORY = 8  # changes that make the usual one
PAUSE = 2.5  # wanted intervals between frames taken: an even rate leaves below 2, a dropped frame adds a half
ROUNDING = 0.002  # seconds: Matroska has time stamps in whole milliseconds
MOST_PIXELS = 2**28  # of a clip: SVD takes 240 GiB to train on as many, more than an accelerator has
FASTEST_FILM = 1000.0  # frames per second that can be given for footage


@dataclass(frozen=True)
class ClipPlan:
    """How footage becomes clips.

    width, height: pixels, multiples of 8. frames: of a clip. fps: frames per second of the clips, None for the divisor
    of the file's own rate that is nearest to 7. stride: frames from the start of a clip to that of the next, None for
    no overlap. least_motion: clips that move less, in per cent of the picture's diagonal per second, are left out; 0
    keeps all. cut: whether scene cuts are looked for. most_clips: taken of one film, from its start on; 0 for all.
    """

    width: int
    height: int
    frames: int
    fps: float | None = None
    stride: int | None = None
    least_motion: float = 0.3
    cut: bool = True
    most_clips: int = 0

    def __post_init__(self) -> None:
        for name, usual in (("width", 576), ("height", 320), ("frames", 14), ("stride", 14), ("most_clips", 0)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Integral):
                raise ValueError(f"{name} is {value}, but it must be a whole number; use such as {usual}")
        check_size(self.width, self.height)
        if self.frames < 2:
            raise ValueError(f"clips of {self.frames} frames show no motion; use 2 or more, such as 14")
        if self.frames * self.width * self.height > MOST_PIXELS:
            raise ValueError(
                f"a clip of {self.frames} frames of {self.width}x{self.height} has more than {MOST_PIXELS:,} pixels, "
                "too many to train on; use fewer, such as 14 of 576x320"
            )
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride is {self.stride}, but clips start at least 1 frame apart; use {self.frames}")
        if self.fps is not None and not 1 <= self.fps <= 120:
            raise ValueError(f"fps is {self.fps:g}, outside 1 to 120; use about 7")
        if not 0 <= self.least_motion < math.inf:
            raise ValueError(
                f"least_motion is {self.least_motion:g}, but it must be a speed of 0 or more; use 0 to keep every clip"
            )
        if self.most_clips < 0:
            raise ValueError(f"most_clips is {self.most_clips}, but it must be at least 0; use 0 for all")


@dataclass
class CutReport:
    """What became of one film: counts, and the frame rates of the file and of its clips.

    pauses: in the time stamps, where frames are further apart than clips may have them.
    """

    name: str
    frames: int = 0
    clips: int = 0
    cuts: int = 0
    pauses: int = 0
    still: int = 0
    file_fps: float = 0.0
    fps: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line."""
        parts = [f"{self.clips} clip{'s' * (self.clips != 1)} from {self.frames} frames at {self.fps:.3g} fps"]
        if self.cuts:
            parts.append(f"{self.cuts} scene cut{'s' * (self.cuts != 1)}")
        if self.pauses:
            parts.append(f"{self.pauses} pause{'s' * (self.pauses != 1)} of more than {PAUSE / self.fps:.2g} s")
        if self.still:
            parts.append(f"{self.still} left out because nothing moves")
        return f"{self.name}: {', '.join([*parts, *self.remarks])}"


def clip_fps(file_fps: float, wanted: float | None) -> float:
    """Return the frame rate that clips of a film with `file_fps` get: never above it, so that no frame is repeated.

    0 means that the file does not say; its frames are then taken to be at the wanted rate, or at 7 per second.
    """
    if file_fps <= 0:
        return wanted or USUAL_FPS
    if wanted is None:
        return file_fps / max(1, round(file_fps / USUAL_FPS))
    return min(wanted, file_fps)


def check_film_fps(fps: float) -> None:
    """Raise ValueError for a frame rate that footage cannot have been filmed at; 0 means that it is unknown."""
    if fps != 0 and not 1 <= fps <= FASTEST_FILM:
        raise ValueError(
            f"frame rate {fps:g} of the frames is outside 1 to {FASTEST_FILM:g} per second; give that of the film, or "
            "0 where it is unknown"
        )


def at_rate(timed: Iterable[tuple[float, Any]], file_fps: float, fps: float) -> Iterator[tuple[float, Any]]:
    """Yield those of (seconds, frame) that are next after each 1/fps, counted from the first.

    A frame that comes later than an even rate would have it, or earlier than the one before, is counted from anew:
    otherwise all that follow a pause would be taken until their number had caught up.
    """
    slack, leeway = 0.5 / file_fps if file_fps > 0 else 0.0, _leeway(file_fps, fps)
    start, taken, before = None, 0, 0.0
    for seconds, frame in timed:
        if start is None or seconds < before - 1 / fps:
            start, taken = seconds, 0
        before = seconds
        late = seconds - start + slack - taken / fps
        if late < 0:
            continue
        if late > leeway:
            start, taken = seconds, 0
        taken += 1
        yield seconds, frame


def _leeway(file_fps: float, fps: float) -> float:
    """Seconds by which frames are off at an even rate: below one interval of the file.

    Half an interval of the clips is as good: a file may say more frames per second than it has.
    """
    return max(1 / file_fps if file_fps > 0 else 0.0, 0.5 / fps) + ROUNDING


def fitted(frame: Tensor, plan: ClipPlan) -> Tensor:
    """Return a frame [H, W, 3] in 0..1 at the plan's size: [3, height, width] in -1..1, the middle kept."""
    return fit(frame.movedim(-1, 0)[None] * 2 - 1, plan.width, plan.height)[0][0]


class CutFinder:
    """Finds scene cuts by jumps of colour histograms, one for each quarter of the picture."""

    def __init__(self) -> None:
        self.before: Tensor | None = None
        self.usual: deque[float] = deque(maxlen=MEMORY)

    def starts_scene(self, frame: Tensor) -> bool:
        """Say whether a frame [3, H, W] in -1..1 begins another scene than the one before it."""
        now = histograms(frame)
        before, self.before = self.before, now
        if before is None:
            return False
        change = float((now - before).abs().sum(-1).mean()) / 2
        ordinary = sorted(self.usual)[len(self.usual) // 2] if self.usual else 0.0
        if change > max(CUT, CUT_RATIO * ordinary):
            self.usual.clear()
            return True
        self.usual.append(change)
        return False


def histograms(frame: Tensor) -> Tensor:
    """Return the shares [12, BINS] of each colour's values in each quarter of a frame [3, H, W] in -1..1."""
    small = F.interpolate(frame[None], (LOOK, LOOK), mode="area")[0]
    bins = ((small + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    half = LOOK // 2
    quarters = bins.reshape(3, 2, half, 2, half).permute(0, 1, 3, 2, 4).reshape(12, half * half)
    return torch.zeros(12, BINS).scatter_add_(1, quarters, torch.ones(quarters.shape)) / (half * half)


class CutClip(NamedTuple):
    """A clip [T, 3, height, width] in -1..1, the number of its first frame, and the frame rate that it really has."""

    number: int
    frames: Tensor
    fps: float


def cut_clips(timed: Iterable[tuple[float, Tensor]], plan: ClipPlan, report: CutReport) -> Iterator[CutClip]:
    """Yield every clip without a scene cut or a pause.

    timed: seconds and frames [3, height, width] in -1..1, taken at the frame rate of `report`; counts go there.
    """
    shot: deque[tuple[float, Tensor]] = deque()
    stride = plan.stride or plan.frames
    skip, given = 0, 0
    for number, (begins, seconds, frame) in enumerate(_shots(timed, plan, report)):
        if begins:
            shot.clear()
            skip = 0
        if skip:
            skip -= 1
            continue
        shot.append((seconds, frame))
        if len(shot) == plan.frames:
            fps = _real_fps(seconds - shot[0][0], plan.frames, report)
            yield CutClip(number + 1 - plan.frames, torch.stack([frame for _, frame in shot]), fps)
            given += 1
            if plan.most_clips and given >= plan.most_clips:
                return
            skip = max(0, stride - plan.frames)
            for _ in range(min(stride, len(shot))):
                shot.popleft()


def _shots(
    timed: Iterable[tuple[float, Tensor]], plan: ClipPlan, report: CutReport
) -> Iterator[tuple[bool, float, Tensor]]:
    """Yield (whether it begins a shot, seconds, frame), counting."""
    finder, before = CutFinder(), None
    for seconds, frame in timed:
        report.frames += 1
        pause = before is not None and not 0 <= seconds - before <= PAUSE / report.fps
        if pause:
            report.pauses += 1
            finder = CutFinder()  # what changed meanwhile is no scene cut
        cut = plan.cut and finder.starts_scene(frame)
        report.cuts += cut
        before = seconds
        yield pause or cut, seconds, frame


def _real_fps(seconds: float, frames: int, report: CutReport) -> float:
    """The frame rate of a clip that lasts so many seconds: the wanted one, unless the file's rate varies too much."""
    if abs(seconds - (frames - 1) / report.fps) <= _leeway(report.file_fps, report.fps):
        return report.fps
    return (frames - 1) / seconds
