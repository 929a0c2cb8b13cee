"""From a stream of frames to clips: the wanted frame rate, no cut of scene inside a clip, the training size.

Works on one frame at a time, so that a film of any length needs the memory of one clip. Knows no files and no models.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures import check_size, fit

USUAL_FPS = 7.0  # what SVD's own clips are played at; the network is told one less
LOOK = 48  # pixels a side of the small frame that scene cuts are looked for in
BINS = 8  # of a histogram, per colour
CUT = 0.35  # share of a quarter's pixels that change their bin, above which a jump may be a cut
CUT_RATIO = 3.0  # times the usual change of the shot, so that lively footage is not cut to pieces
MEMORY = 8  # changes that make the usual one


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
        check_size(self.width, self.height)
        if self.frames < 2:
            raise ValueError(f"clips of {self.frames} frames show no motion; use 2 or more, such as 14")
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride is {self.stride}, but clips start at least 1 frame apart; use {self.frames}")
        if self.fps is not None and not 1 <= self.fps <= 120:
            raise ValueError(f"fps is {self.fps:g}, outside 1 to 120; use about 7")
        if not self.least_motion >= 0:
            raise ValueError(f"least_motion is {self.least_motion:g}, but it is a speed; use 0 to keep every clip")


@dataclass
class CutReport:
    """What became of one film: counts, and the frame rates of the file and of its clips."""

    name: str
    frames: int = 0
    clips: int = 0
    cuts: int = 0
    still: int = 0
    file_fps: float = 0.0
    fps: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line."""
        parts = [f"{self.clips} clip{'s' * (self.clips != 1)} from {self.frames} frames at {self.fps:.3g} fps"]
        if self.cuts:
            parts.append(f"{self.cuts} scene cut{'s' * (self.cuts != 1)}")
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


def at_rate(frames: Iterable[tuple[float, object]], file_fps: float, fps: float) -> Iterator[object]:
    """Yield of (seconds, frame) those next after each 1/fps, counted from the first."""
    slack, start, taken = 0.5 / file_fps if file_fps > 0 else 0.0, None, 0
    for seconds, frame in frames:
        start = seconds if start is None else start
        if seconds - start + slack >= taken / fps:
            taken += 1
            yield frame


def fitted(frames: Iterable[Tensor], plan: ClipPlan) -> Iterator[Tensor]:
    """Yield frames [H, W, 3] in 0..1 at the plan's size: [3, height, width] in -1..1, the middle kept."""
    for frame in frames:
        yield fit(frame.movedim(-1, 0)[None] * 2 - 1, plan.width, plan.height)[0][0]


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


def cut_clips(frames: Iterable[Tensor], plan: ClipPlan, report: CutReport) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of its first frame, clip [T, 3, height, width] in -1..1) for every clip without a scene cut.

    frames: [3, height, width] in -1..1 at the wanted rate. Counts go to `report`.
    """
    finder, shot = CutFinder(), deque()
    stride = plan.stride or plan.frames
    skip, given = 0, 0
    for number, frame in enumerate(frames):
        report.frames += 1
        if plan.cut and finder.starts_scene(frame):
            report.cuts += 1
            shot.clear()
            skip = 0
        if skip:
            skip -= 1
            continue
        shot.append(frame)
        if len(shot) == plan.frames:
            yield number + 1 - plan.frames, torch.stack(list(shot))
            given += 1
            if plan.most_clips and given >= plan.most_clips:
                return
            skip = max(0, stride - plan.frames)
            for _ in range(min(stride, len(shot))):
                shot.popleft()
