"""Cut a stream of frames into clips of the wanted frame rate and size, without a scene cut inside a clip.

Frames are read one at a time, so that a film of any length needs the memory of one clip.
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

USUAL_FPS = 7.0  # rate of SVD's own clips; the network gets fps - 1
LOOK = 48  # side in pixels of the small frames that are compared to find scene cuts
BINS = 8  # of a histogram, per colour
CUT = 0.35  # share of a quarter's pixels that change their bin; more may be a scene cut
CUT_RATIO = 3.0  # a cut changes this many times more than the shot usually does, or lively footage would be cut
MEMORY = 8  # changes whose median is the usual one
PAUSE = 2.5  # intervals between two taken frames that end a clip: an even rate has below 2, a dropped frame adds half
ROUNDING = 0.002  # seconds: time stamps of Matroska are whole milliseconds
MOST_PIXELS = 2**28  # of a clip; training SVD on more takes over 240 GiB, more than an accelerator has
FASTEST_FILM = 1000.0  # highest frames per second of footage


@dataclass(frozen=True)
class ClipPlan:
    """Settings for cutting footage into clips.

    width, height: pixels, multiples of 8. frames: of a clip. fps: frames per second of the clips; None divides the
    rate of the file by a whole number to come near 7. stride: frames between the starts of clips; None for no overlap.
    least_motion: clips that move less are left out, in % of the diagonal per second; 0 keeps all. cut: whether to find
    scene cuts. most_clips: largest number of clips from one film, from its start; 0 for all.
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
                raise ValueError(f"{name} must be a whole number (got {value}); use {usual}, for example")
        check_size(self.width, self.height)
        if self.frames < 2:
            raise ValueError(f"frames must be 2 or more to show motion (got {self.frames}); use 14")
        if self.frames * self.width * self.height > MOST_PIXELS:
            raise ValueError(
                f"a clip may have at most {MOST_PIXELS:,} pixels (got {self.frames} frames of "
                f"{self.width}x{self.height}); use 14 frames of 576x320, for example"
            )
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride must be 1 or more (got {self.stride}); use {self.frames}")
        if self.fps is not None and not 1 <= self.fps <= 120:
            raise ValueError(f"fps must be 1 to 120 (got {self.fps:g}); use about 7")
        if not 0 <= self.least_motion < math.inf:
            raise ValueError(f"least_motion must be 0 or more (got {self.least_motion:g}); use 0 to keep every clip")
        if self.most_clips < 0:
            raise ValueError(f"most_clips must be 0 or more (got {self.most_clips}); use 0 for all")


@dataclass
class CutReport:
    """Report on one film: counts, and the frame rates of the file and of its clips.

    pauses: gaps in the time stamps that end a clip. still: clips left out for too little motion.
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

    def on_frame(self) -> None:
        """Do nothing; replaced by a function that is called for every frame that is read, and may raise to stop."""

    def text(self) -> str:
        """Return the report in one line."""
        parts = [f"{self.clips} clip{'s' * (self.clips != 1)} from {self.frames} frames at {self.fps:.3g} fps"]
        if self.cuts:
            parts.append(f"{self.cuts} scene cut{'s' * (self.cuts != 1)}")
        if self.pauses:
            parts.append(f"{self.pauses} pause{'s' * (self.pauses != 1)} of more than {PAUSE / self.fps:.2g} s")
        if self.still:
            parts.append(f"{self.still} left out for too little motion")
        return f"{self.name}: {', '.join([*parts, *self.remarks])}"


def clip_fps(file_fps: float, wanted: float | None) -> float:
    """Return the frame rate of clips from a film with `file_fps`; at most that, so that no frame is repeated.

    0 means that the rate of the film is unknown; it is then taken as the wanted rate, or 7.
    """
    if file_fps <= 0:
        return wanted or USUAL_FPS
    if wanted is None:
        return file_fps / max(1, round(file_fps / USUAL_FPS))
    return min(wanted, file_fps)


def check_film_fps(fps: float) -> None:
    """Raise ValueError for an impossible frame rate of footage; 0 means that it is unknown."""
    if fps != 0 and not 1 <= fps <= FASTEST_FILM:
        raise ValueError(
            f"the frame rate of the frames must be 1 to {FASTEST_FILM:g} (got {fps:g}); give that of the film, or 0 if "
            "it is unknown"
        )


def at_rate(timed: Iterable[tuple[float, Any]], file_fps: float, fps: float) -> Iterator[tuple[float, Any]]:
    """Yield the next (seconds, frame) after each 1 / fps, counted from the first.

    After a pause, and where time stamps jump back, counting starts again; otherwise all frames after a pause would be
    taken until their number had caught up.
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
    """Return by how many seconds frames of an even rate may be late: one interval of the file.

    At least half an interval of the clips, because a file may claim more frames per second than it has.
    """
    return max(1 / file_fps if file_fps > 0 else 0.0, 0.5 / fps) + ROUNDING


def fitted(frame: Tensor, plan: ClipPlan) -> Tensor:
    """Return a frame [H, W, 3] in 0..1 cropped to the plan's size: [3, height, width] in -1..1."""
    return fit(frame.movedim(-1, 0)[None] * 2 - 1, plan.width, plan.height)[0][0]


class CutFinder:
    """Find scene cuts by jumps of the colour histograms of each quarter of the picture."""

    def __init__(self) -> None:
        self.before: Tensor | None = None
        self.usual: deque[float] = deque(maxlen=MEMORY)

    def starts_scene(self, frame: Tensor) -> bool:
        """Return whether a frame [3, H, W] in -1..1 begins another scene than the frame before it."""
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
    """A clip [T, 3, height, width] in -1..1, the number of its first frame, and its real frame rate."""

    number: int
    frames: Tensor
    fps: float


def cut_clips(timed: Iterable[tuple[float, Tensor]], plan: ClipPlan, report: CutReport) -> Iterator[CutClip]:
    """Yield every clip without a scene cut or a pause.

    timed: seconds and frames [3, height, width] in -1..1 at the frame rate of `report`, which gets the counts.
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
    """Yield (whether the frame begins a shot, seconds, frame) and count frames, cuts and pauses."""
    finder, before = CutFinder(), None
    for seconds, frame in timed:
        report.frames += 1
        report.on_frame()
        pause = before is not None and not 0 <= seconds - before <= PAUSE / report.fps
        if pause:
            report.pauses += 1
            finder = CutFinder()  # a change during the pause is not a scene cut
        cut = plan.cut and finder.starts_scene(frame)
        report.cuts += cut
        before = seconds
        yield pause or cut, seconds, frame


def _real_fps(seconds: float, frames: int, report: CutReport) -> float:
    """Return the frame rate of a clip of that duration: the wanted one, unless the file's rate varies too much."""
    if abs(seconds - (frames - 1) / report.fps) <= _leeway(report.file_fps, report.fps):
        return report.fps
    return (frames - 1) / seconds
