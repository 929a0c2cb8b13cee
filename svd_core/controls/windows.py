"""Clips longer than those the model was trained on, sampled at once in overlapping windows.

Every evaluation averages the estimates of the windows, with weights that sum to one in every frame (MultiDiffusion,
Bar-Tal et al. 2023, in time; FreeNoise, Qiu et al. 2024). The model never sees more than one window.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..condition import Condition
from ..networks.vae import LATENT_SCALE
from ..sampling.controls import Control, Evaluate, Inputs, Run
from ..sampling.guidance import Guidance

SHUFFLE_BLOCK = 4  # frames whose noise is shuffled together, as in the code of FreeNoise
# Cycles of the offset while sigma grows by a factor of e: irrational, and far from the step of any schedule, so that
# neighbouring steps do not put the borders of their windows in the same place.
TURNS = 10 * (math.sqrt(5) - 1) / 2


def pyramid_weights(size: int) -> Tensor:
    """Return weights 1, 2, ... up to the middle of a window and down again (FreeNoise): [size], float64."""
    ramp = torch.arange(1, size + 1, dtype=torch.float64)
    return torch.minimum(ramp, ramp.flip(0))


def linear_weights(size: int, overlap: int) -> Tensor:
    """Return weights of 1 with linear ramps over `overlap` frames at both ends: [size], float64."""
    return (pyramid_weights(size) / (overlap + 1)).clamp(max=1.0)


WEIGHTS: dict[str, Callable[[int, int], Tensor]] = {
    "pyramid": lambda size, overlap: pyramid_weights(size),
    "linear": linear_weights,
}
"""Weights of the frames of a window before normalisation, by name: `(size, overlap) -> [size]`."""


def freenoise_order(frames: int, window: int, seed: int) -> Tensor:
    """Return the index of the noise frame, 0 to `window` - 1, that each frame uses: [frames], integers.

    The noise repeats with the window, but blocks of four frames are shuffled, so that distant windows agree on their
    content without repeating its motion (FreeNoise).
    """
    shuffle = torch.Generator().manual_seed(seed)
    order = list(range(window))
    while len(order) < frames:
        block = order[len(order) - window :][:SHUFFLE_BLOCK]
        order += [block[i] for i in torch.randperm(len(block), generator=shuffle).tolist()]
    return torch.tensor(order[:frames])


BORDERS = ("move with every step", "stay in place")
"""Names for `shift` on and off."""

ENDS = ("open", "closed loop")
"""Names for `closed` off and on."""

NOISES = ("repeated and shuffled", "fresh everywhere")
"""Names for `freenoise` on and off."""


@dataclass(frozen=True, eq=False)
class Windows(Control):
    """Denoise a long clip in windows of `size` frames that share `overlap` frames with their neighbours.

    Guidance and conditions belong to the frames of the whole clip. A clip of one window is not changed.

    weights: a key of WEIGHTS.
    shift: move the windows with every sigma, so that borders do not stay in one place.
    closed: the last frame is followed by the first, for a loop; guidance should then end as it begins.
    rolling: below this sigma (for 1024x576) each later window starts from the estimate of its first frame in the window
    before it. Otherwise it starts from the start picture and returns to it. 0 is off; 5 to 20 travels further and loses
    detail on the way.
    freenoise: later frames use the noise of the first window, in blocks shuffled by the seed.
    """

    size: int
    overlap: int
    weights: str = "pyramid"
    shift: bool = True
    closed: bool = False
    rolling: float = 0.0
    freenoise: bool = False

    innermost = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"windows need at least 1 frame (got {self.size}); use the model's own length, 14 or 25")
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f"windows of {self.size} frames can overlap by 0 to {self.size - 1} (got {self.overlap}); use about "
                f"{self.size // 3}"
            )
        if self.weights not in WEIGHTS:
            raise ValueError(f"the weights {self.weights!r} are unknown; use one of {', '.join(WEIGHTS)}")
        if not (math.isfinite(self.rolling) and self.rolling >= 0):
            raise ValueError(f"the sigma of rolling windows must be 0 or above (got {self.rolling:g}); use 10 to 30")
        if self.rolling and not self.overlap:
            raise ValueError(
                "rolling windows need an overlap of at least 1 (got 0), because each starts from a frame of the one "
                f"before; use about {max(1, self.size // 3)}"
            )

    def passes(self, frames: int) -> int:
        """Return the largest number of windows in one evaluation of a clip of `frames` frames."""
        return max(len(self.starts(frames, offset)) for offset in range(self._stride if self.shift else 1))

    def starts(self, frames: int, offset: int = 0) -> list[int]:
        """Return the first frame of each window, in order, moved towards the start of the clip by `offset` frames.

        The windows cover every frame. In an open clip the first starts at frame 0 and the last ends with the clip.
        Raises ValueError for a clip shorter than a window.
        """
        self._check(frames)
        if frames == self.size:
            return [0]
        if self.closed:
            return [(k * self._stride - offset) % frames for k in range(-(-frames // self._stride))]
        last = frames - self.size
        return [0, *range(self._stride - offset, last, self._stride), last]

    def offset(self, sigma: float) -> int:
        """Return how far the windows are moved at `sigma`: 0 to the stride between windows, exclusive."""
        if not self.shift:
            return 0
        return min(int(math.log(sigma) * TURNS % 1.0 * self._stride), self._stride - 1)

    def edit_noise(self, noise: Tensor, seed: int) -> Tensor:
        """Return the noise of the first window repeated and shuffled, if `freenoise` is set."""
        self._check(len(noise))
        return noise[freenoise_order(len(noise), self.size, seed).to(noise.device)] if self.freenoise else noise

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate window by window."""
        frames = len(run.noise)
        self._check(frames)
        if frames == self.size:
            return evaluate

        def fused(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            rolling = sigma < self.rolling * run.scale
            return self._fuse(evaluate, x, sigma, inputs, rolling)

        return fused

    def shares(self, frames: int, offset: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Return the frames [size] and weights [size] of each window; the weights of every frame sum to one."""
        weights = WEIGHTS[self.weights](self.size, self.overlap)
        windows = [(start + torch.arange(self.size)) % frames for start in self.starts(frames, offset)]
        total = torch.zeros(frames, dtype=torch.float64)
        for window in windows:
            total.index_add_(0, window, weights)
        return [(window, weights / total[window]) for window in windows]

    def _fuse(self, evaluate: Evaluate, x: Tensor, sigma: float, inputs: Inputs, rolling: bool) -> Tensor:
        """Return the weighted average of the estimates of all windows of `x`: [T, 4, h, w]."""
        clip = torch.zeros_like(x)
        before = None
        for window, share in self.shares(len(x), self.offset(sigma)):
            part = slice_inputs(inputs, window, len(x))
            if rolling and before is not None:
                start = int((before[0] == window[0]).nonzero()[0])
                part = part._replace(condition=_start_from(part.condition, before[1][start : start + 1]))
            index = window.to(x.device)
            estimate = evaluate(x[index], sigma, part)
            clip.index_add_(0, index, estimate * share.to(x).reshape(-1, 1, 1, 1))
            before = (window, estimate)
        return clip

    @property
    def _stride(self) -> int:
        return self.size - self.overlap

    def _check(self, frames: int) -> None:
        if frames < self.size:
            raise ValueError(
                f"windows of {self.size} frames need a clip at least as long (got {frames}); use windows of at most "
                f"{frames}, or a longer clip"
            )
        if self.closed and frames == self.size:
            raise ValueError(
                f"a closed clip needs more than one window (got {frames} frames, windows of {self.size}); use smaller "
                "windows, or a longer clip"
            )


def slice_inputs(inputs: Inputs, index: Tensor, frames: int) -> Inputs:
    """Return the inputs of the frames `index` of a clip of `frames` frames; single rows serve all frames."""
    scale = inputs.guidance.over_frames(frames)[index]
    guidance = Guidance(scale, inputs.guidance.sigma_low, inputs.guidance.sigma_high)
    condition, unconditional = (_slice_condition(part, index) for part in (inputs.condition, inputs.unconditional))
    features = inputs.features_of(index)
    return inputs._replace(condition=condition, unconditional=unconditional, guidance=guidance, features=features)


def _slice_condition(condition: Any, index: Tensor) -> Any:
    """Return the rows `index` of a Condition; other objects and single rows serve all frames."""
    if not isinstance(condition, Condition) or condition.frames == 1:
        return condition
    return condition.with_parts(lambda part: part if len(part) == 1 else part[index.to(part.device)])


def _start_from(condition: Any, latent: Tensor) -> Any:
    """Return the condition with another start picture, a scaled latent [1, 4, h, w]."""
    if not isinstance(condition, Condition):
        return condition
    return replace(condition, latent=(latent / LATENT_SCALE).to(condition.latent))
