"""The colour lock of extended clips in their finished frames: what latents cannot tell of brightness and contrast."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.controls import Control

GAIN_LIMITS = (0.8, 1.25)  # contrast is never changed by more, whatever the scene does
LEAST = 1e-3  # contrast below it is none


@dataclass(frozen=True, eq=False)
class LookLock(Control):
    """Bring mean colour and contrast of the frames behind the first `frames` to those of these, when decoded.

    The lock of the latents keeps their statistics, but a contrast in latents is only nearly one in pixels: what is left
    of the drift is taken out here, even over time, so that flicker and motion stay. `strength` 0..1 is the share of the
    way (0 is off), reached over the first `ramp` frames behind the join; the means of single frames are averaged over
    `ramp` neighbours on each side.
    """

    frames: int
    strength: float = 1.0
    ramp: int = 4

    edits_frames = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the look is locked by {self.strength:g}, but it must be from 0 to 1; use 0.9, or 0")
        if self.frames < 1 or self.ramp < 0:
            raise ValueError(
                f"the look of {self.frames} frames is reached over {self.ramp}, but that must be at least 1, over 0 or "
                "more; use those of the first clip, over its overlap"
            )

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with later ones regraded; a clip that was not extended as it is."""
        if len(frames) <= self.frames:
            return frames
        looks = torch.stack([_look(frame) for frame in frames])  # [T, 4]
        wanted, own = looks[: self.frames].mean(0), _averaged(looks, self.ramp)
        late = torch.arange(len(frames) - self.frames)
        share = self.strength * ((late + 1) / (self.ramp + 1)).clamp(max=1)
        locked = frames.clone()
        for k, amount in zip(late.tolist(), share.tolist(), strict=True):
            frame, look = frames[self.frames + k], own[self.frames + k]
            gain = float((wanted[3] / look[3]).clamp(*GAIN_LIMITS)) ** amount
            middle = look[:3] + amount * (wanted[:3] - look[:3])
            locked[self.frames + k] = (middle.to(frame) + gain * (frame - look[:3].to(frame))).clamp(0, 1)
        return locked


def _look(frame: Tensor) -> Tensor:
    """Mean red, green and blue, and contrast (deviation of luminance), of a frame [H, W, 3]: [4] on the CPU."""
    # Imported when used: the host imports every pack when it starts, and few starts measure.
    from ..flow.planes import luminance

    frame = frame.float()
    contrast = luminance(frame).std(correction=0).clamp(min=LEAST)
    return torch.cat([frame.mean((0, 1)), contrast[None]]).double().cpu()


def _averaged(values: Tensor, radius: int) -> Tensor:
    """Values [T, C], each averaged with `radius` neighbours on both sides; at the ends with as many as both have."""
    last = len(values) - 1
    rows = []
    for t in range(len(values)):
        reach = min(radius, t, last - t)
        rows.append(values[t - reach : t + reach + 1].mean(0))
    return torch.stack(rows)
