"""The motion brush: a painted mask says which parts of the picture stand still and which move, with the base weights.

Three means together: cells are held at the picture down to a noise level that the mask sets, still and moving parts
are told different motion buckets, and what stands still is kept exactly in the finished frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..condition import Condition, Region
from ..networks.vae import LATENT_SCALE
from ..sampling.controls import Control, Inputs, Run, Start
from .amount import BUCKET, check_points, picture_latent, with_scalar
from .between import check_strength, reach
from .mask import FEATHER, Kept, feather_pixels, feathered, kept_still

HOLD = 0.01  # to the end: let go at 0.3, still parts of nano moved up to half as much as the others


@dataclass(frozen=True, eq=False)
class MotionBrush(Control):
    """Hold cells at the start picture from the first step down to a release level of their own, in the denoised
    estimate (differential diffusion, Levin & Fried 2023, with the still as its signal; the release map of
    Time-to-Move).

    `motion` [1|T, 1, h, w]: 0 is held down to `sigma` (for 1024x576, scaled to the clip), 1 is never held, what lies
    between in even steps of the logarithm between that and the first sigma. `strength` moves the release level up: 0 is
    off. `still_bucket` and `moving_bucket` tell the network other motion buckets for both sides, None the clip's own;
    off, the network runs as usual. `latent`, scaled, is the clean picture; without it the condition's own serves.
    `kept` is laid over the decoded frames. No evaluation more than usual.
    """

    motion: Tensor
    strength: float = 1.0
    sigma: float = HOLD
    still_bucket: float | None = None
    moving_bucket: float | None = None
    latent: Tensor | None = None
    kept: Kept | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"the mask lets go at sigma {self.sigma:g}, but it must be above 0; use 0.01")
        if self.motion.ndim != 4 or self.motion.shape[1] != 1:
            raise ValueError(f"the motion mask has shape {list(self.motion.shape)}; give [1, 1, h, w] or [T, 1, h, w]")
        for name, bucket in (("still bucket", self.still_bucket), ("moving bucket", self.moving_bucket)):
            if bucket is not None:
                check_points(((0.0, bucket),), name, 0)

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    @property
    def edits_frames(self) -> bool:
        """Whether a still is kept."""
        return self.kept is not None

    def begin(self, run: Run, start: Start) -> Start:
        """Change nothing, but find a mask of another clip before the first step."""
        self._map(run)
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Tell both branches of guidance the buckets of both sides."""
        if self.still_bucket is None and self.moving_bucket is None:
            return inputs
        share = 1 - self._map(run)
        condition, other = inputs.condition, inputs.unconditional
        return inputs._replace(
            condition=self._with_buckets(condition, share),
            unconditional=None if other is None else self._with_buckets(other, share),
        )

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold the cells that have not been released."""
        first = run.sigmas[0]
        hold = reach(run, self.sigma, self.strength)
        release = first * (hold / first) ** (1 - self._map(run))  # [1|T, 1, h, w]
        # A little above, so that rounding never holds what moves freely.
        return torch.where(sigma > release * 1.0001, picture_latent(run, self.latent), estimate)

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Lay the still over the frames."""
        return frames if self.kept is None else self.kept.over(frames)

    def _with_buckets(self, condition: Condition, share: Tensor) -> Condition:
        still = condition
        if self.still_bucket is not None:
            still = with_scalar(condition, BUCKET, torch.tensor([self.still_bucket]))
        if self.moving_bucket is not None:
            condition = with_scalar(condition, BUCKET, torch.tensor([self.moving_bucket]))
        return replace(condition, region=Region(still.vector, share))

    def _map(self, run: Run) -> Tensor:
        frames, _, height, width = run.noise.shape
        rows, _, h, w = self.motion.shape
        if (h, w) != (height, width) or rows not in (1, frames):
            raise ValueError(
                f"the motion mask is for {rows} frames of {8 * w}x{8 * h} pixels, the clip has {frames} of "
                f"{8 * width}x{8 * height}; make both from the same latent"
            )
        return self.motion.to(run.noise)


def motion_brush(
    encode: Callable[[Tensor], Tensor],
    picture: Tensor,
    masks: Tensor,
    *,
    feather: float = FEATHER,
    keep_still: bool = True,
    **settings: float | None,
) -> MotionBrush:
    """Return the brush for one fitted picture [1, 3, 8h, 8w] in -1..1 and masks [1|T, 1, 8h, 8w] (`mask.fit_masks`).

    `encode` takes the picture to its unscaled latent, as `SVDModel.encode_latent` does. feather: per cent of the mean
    side. keep_still: lay the picture itself over the decoded frames where the mask is 0. `settings`: further fields of
    MotionBrush.
    """
    radius = -(-feather_pixels(feather, *picture.shape[2:]) // 2)
    motion = F.avg_pool2d(feathered(masks, radius), 8)
    kept = kept_still(picture, masks, radius) if keep_still else None
    return MotionBrush(motion, latent=encode(picture).float() * LATENT_SCALE, kept=kept, **settings)
