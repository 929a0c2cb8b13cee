"""Windows for clips that follow poses: frame 0, the reference picture's own pose, leads every window.

MimicMotion puts frame 0 itself into every window and weights the others by a triangle; ControlNeXt lends each window
the pose of frame 0 and leaves its first frame out. Either way every estimate is an average over the windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..sampling.controls import Control, Evaluate, Inputs, Run
from .windows import slice_inputs

ANCHORS = ("mimicmotion", "controlnext")


class AnchoredWindow(NamedTuple):
    """One window: its frames, the frames whose poses it sees, and the weight of each of its estimates."""

    frames: list[int]
    poses: list[int]
    weights: list[float]


@dataclass(frozen=True, eq=False)
class AnchoredWindows(Control):
    """Denoise a clip in windows of `size` frames that share `overlap` frames, all led by frame 0.

    anchor: "mimicmotion" or "controlnext", whose rules differ. A clip of at most one window is evaluated at once.
    """

    size: int
    overlap: int
    anchor: str = "mimicmotion"

    innermost = True

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"the anchor {self.anchor!r} is unknown; use one of {', '.join(ANCHORS)}")
        if self.size < 2:
            raise ValueError(f"windows led by frame 0 need at least 2 frames (got {self.size}); use 16, 24 or 72")
        # MimicMotion's frame 0 takes one place of each window.
        most = self.size - (2 if self.anchor == "mimicmotion" else 1)
        if not 0 <= self.overlap <= most:
            raise ValueError(
                f"windows of {self.size} frames can overlap by 0 to {most} (got {self.overlap}); use 4 or 6"
            )

    def plan(self, frames: int) -> list[AnchoredWindow]:
        """Return the windows of a clip in order; they cover every frame with a weight above 0."""
        size, stride = min(self.size, frames), self.size - self.overlap
        if self.anchor == "mimicmotion":
            last = frames - size + 1
            starts = [*range(1, last, stride), last]
            triangle = [min((place + 0.5) * 2 / size, 2 - (place + 0.5) * 2 / size) for place in range(size)]
            groups = [[0, *range(start, start + size - 1)] for start in starts]
            return [AnchoredWindow(group, group, triangle) for group in groups]
        last = frames - size
        windows = []
        for start in [*range(0, last, stride), last]:
            own = list(range(start, start + size))
            windows.append(AnchoredWindow(own, [0, *own[1:]], [float(start == 0), *[1.0] * (size - 1)]))
        return windows

    def passes(self, frames: int) -> int:
        """Return the number of windows in one evaluation of a clip of `frames` frames."""
        return len(self.plan(frames))

    def edit_noise(self, noise: Tensor, seed: int) -> Tensor:
        """Return MimicMotion's noise: that of the first window, repeated along the clip."""
        if self.anchor != "mimicmotion" or len(noise) <= self.size:
            return noise
        return noise[torch.arange(len(noise), device=noise.device) % self.size]

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate window by window."""
        frames = len(run.noise)
        if frames <= self.size:
            return evaluate
        windows = self.plan(frames)

        def averaged(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            total, clip = torch.zeros(frames, dtype=torch.float64), torch.zeros_like(x)
            for window in windows:
                weights = torch.tensor(window.weights, dtype=torch.float64)
                index = torch.tensor(window.frames)
                part = slice_inputs(inputs, index, frames)
                if window.poses != window.frames:
                    part = _with_poses(part, inputs, window.poses)
                estimate = evaluate(x[index.to(x.device)], sigma, part)
                clip.index_add_(0, index.to(x.device), estimate * weights.to(x).reshape(-1, 1, 1, 1))
                total.index_add_(0, index, weights)
            return clip / total.to(x).reshape(-1, 1, 1, 1)

        return averaged


@dataclass(frozen=True, eq=False)
class DropFirstFrame(Control):
    """Leave the first decoded frame out: it shows the reference picture's own pose."""

    edits_frames = True

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return the frames after the first; a clip of one frame stays."""
        return frames[1:].contiguous() if len(frames) > 1 else frames


def _with_poses(part: Inputs, inputs: Inputs, poses: Sequence[int]) -> Inputs:
    """Return a window's inputs whose adapters see the frames `poses` of the clip instead of the window's own."""
    index = torch.tensor(poses)

    def rows(values: Tensor) -> Tensor:
        return values if len(values) == 1 else values[index.to(values.device)]

    def led(own: Condition | None, whole: Condition | None) -> Condition | None:
        if own is None or not own.adapters:
            return own
        return replace(own, adapters=tuple(adapter.with_parts(rows) for adapter in whole.adapters))

    return part._replace(
        condition=led(part.condition, inputs.condition), unconditional=led(part.unconditional, inputs.unconditional)
    )
