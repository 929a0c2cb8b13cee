"""The motion brush: a painted mask decides which parts of the picture stand still and which move.

It works with the base weights, by three means. Cells are held at the picture down to a noise level set by the mask.
Still and moving parts get different motion buckets. And the decoded frames show the picture itself where nothing moves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..condition import Condition, Region
from ..networks.vae import LATENT_SCALE
from ..pictures.reading import lay_out, lay_out_planes
from ..sampling.controls import Control, Inputs, Run, Start
from .amount import BUCKET, check_points, picture_latent, with_scalar
from .mask import FEATHER, StillOverlay, feather_pixels, feathered, still_overlay
from .strength import check_sigma, check_strength, release_level

HOLD = 0.01  # down to the last step: released at 0.3, still parts of nano moved up to half as much as the others


@dataclass(frozen=True, eq=False)
class MotionBrush(Control):
    """Hold cells at the start picture, each from the first step down to its own release level.

    Works on the denoised estimate (differential diffusion, Levin & Fried 2023, with the still as its signal; the
    release map is that of Time-to-Move). It needs no extra evaluation.

    motion: [1|T, 1, h, w]. 0 is held down to `sigma`, 1 is never held; values between are released in even steps of the
    logarithm between `sigma` and the first sigma.
    strength: moves the release level up; 0 is off.
    sigma: for 1024x576, scaled to the clip.
    still_bucket, moving_bucket: motion buckets of both sides, None for that of the clip. If both are None, the network
    runs as usual.
    latent: scaled latent of the clean picture; None takes that of the condition.
    overlay: laid over the decoded frames.
    """

    motion: Tensor
    strength: float = 1.0
    sigma: float = HOLD
    still_bucket: float | None = None
    moving_bucket: float | None = None
    latent: Tensor | None = None
    overlay: StillOverlay | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_sigma("the sigma that releases still parts", self.sigma, "use 0.01")
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
        """Whether the decoded frames get an overlay."""
        return self.overlay is not None

    def begin(self, run: Run, start: Start) -> Start:
        """Return the start unchanged; raises ValueError if the mask does not fit the clip."""
        self._map(run)
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Give both conditions the motion buckets of still and moving parts."""
        if self.still_bucket is None and self.moving_bucket is None:
            return inputs
        share = 1 - self._map(run)
        condition, other = inputs.condition, inputs.unconditional
        return inputs._replace(
            condition=self._with_buckets(condition, share),
            unconditional=None if other is None else self._with_buckets(other, share),
        )

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold the cells that are not released yet."""
        first = run.sigmas[0]
        hold = release_level(run, self.sigma, self.strength)
        release = first * (hold / first) ** (1 - self._map(run))  # [1|T, 1, h, w]
        # The margin keeps rounding from holding cells that move freely.
        return torch.where(sigma > release * 1.0001, picture_latent(run, self.latent), estimate)

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Lay the picture over the still parts of frames [T, H, W, 3]."""
        return frames if self.overlay is None else self.overlay.over(frames)

    def _with_buckets(self, condition: Condition, share: Tensor) -> Condition:
        """Return the condition with the moving bucket, and the still bucket by `share` of each cell."""
        still = condition
        if self.still_bucket is not None:
            still = with_scalar(condition, BUCKET, torch.tensor([self.still_bucket]))
        if self.moving_bucket is not None:
            condition = with_scalar(condition, BUCKET, torch.tensor([self.moving_bucket]))
        return replace(condition, region=Region(still.vector, share))

    def _map(self, run: Run) -> Tensor:
        """Return the motion mask [1|T, 1, h, w] on the device of the run."""
        frames, _, height, width = run.noise.shape
        rows, _, h, w = self.motion.shape
        if (h, w) != (height, width) or rows not in (1, frames):
            raise ValueError(
                f"the motion mask was made for {rows} frames of {8 * w}x{8 * h} pixels, the clip has {frames} of "
                f"{8 * width}x{8 * height}; make both from the same latent"
            )
        return lay_out(self.motion.to(run.noise))


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

    encode: returns the unscaled latent of the picture, such as `SVDModel.encode_latent`. feather: soft edge in per cent
    of the mean side. keep_still: lay the picture itself over the decoded frames where the mask is 0. settings: further
    fields of MotionBrush.
    """
    picture, masks = lay_out_planes(picture), lay_out(masks)
    radius = -(-feather_pixels(feather, *picture.shape[2:]) // 2)
    motion = F.avg_pool2d(feathered(masks, radius), 8)
    overlay = still_overlay(picture, masks, radius) if keep_still else None
    latent = lay_out(encode(picture).float()) * LATENT_SCALE
    return MotionBrush(motion, latent=latent, overlay=overlay, **settings)
