"""The colour lock of extended clips: what keeps colour and contrast where the first clip had them.

Works on latents, whose four channels carry colour and brightness nearly linearly. Knows no model.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling.controls import Control

GAIN_LIMITS = (0.8, 1.25)  # contrast is never changed by more, whatever the scene does
MATCH_LIMITS = (0.9, 1.1)
DETAIL_LIMIT = 1.4  # fine structure that is not there any more cannot be amplified without end
RIDGE = 0.01  # share of the variance that pulls a fitted gain to 1, for channels that hardly vary


class Look(NamedTuple):
    """Mean, standard deviation and fine structure (its root mean square) of each channel, [T, 4] or [4], float64."""

    mean: Tensor
    spread: Tensor
    detail: Tensor


def look_of(latents: Tensor) -> Look:
    """Return the look of each frame of `latents` [T, 4, h, w]: [T, 4] each."""
    flat = latents.double().flatten(2)
    fine = latents - _smooth(latents)
    return Look(flat.mean(2), flat.std(2, unbiased=False), fine.double().pow(2).mean((2, 3)).sqrt())


def mean_look(latents: Tensor) -> Look:
    """Return the average look of a clip [T, 4, h, w]: [4] each."""
    return Look(*(part.mean(0) for part in look_of(latents)))


def match_overlap(chunk: Tensor, known: Tensor, strength: float) -> Tensor:
    """Return `chunk` [T, 4, h, w] with the gain and offset per channel that bring its first frames to `known` [K, ...].

    Both show the same frames, so what differs overall is colour, not motion. `strength` 0..1 is the share of it.
    """
    ours, theirs = (part.double().transpose(0, 1).flatten(1) for part in (chunk[: len(known)], known))  # [4, K*h*w]
    mean, wanted = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    variance = (ours - mean).pow(2).mean(1)
    pull = RIDGE * variance + torch.finfo(torch.float32).tiny
    gain = (((ours - mean) * (theirs - wanted)).mean(1) + pull) / (variance + pull)
    gain = 1 + strength * (gain.clamp(*MATCH_LIMITS) - 1)
    return _regraded(chunk, mean[:, 0], mean[:, 0] + strength * (wanted - mean)[:, 0], gain)


def lock_colour(frames: Tensor, anchor: Look, strength: float, ramp: int) -> Tensor:
    """Return `frames` [T, 4, h, w], which follow the join, drawn to the look of the first clip.

    Each channel's mean and spread are taken as even courses over the frames, so that flicker and motion stay what they
    are. `strength` 0..1 is the share of the way to `anchor`, reached over the first `ramp` frames: the join keeps no
    step.
    """
    if strength == 0 or not len(frames):
        return frames
    look = look_of(frames)
    mean, spread = _even_course(look.mean), _even_course(look.spread).clamp(min=1e-6)
    share = strength * _reached(len(frames), ramp).to(mean)  # [T, 1]
    gain = (anchor.spread.to(mean).clamp(min=1e-6) / spread).clamp(*GAIN_LIMITS) ** share
    return _regraded(frames, mean, mean + share * (anchor.mean.to(mean) - mean), gain)


def keep_detail(frames: Tensor, anchor: Look, strength: float, ramp: int) -> Tensor:
    """Return `frames` [T, 4, h, w] with their fine structure raised to that of the first clip, never lowered.

    Each chunk loses a little and would hand that on. `strength` and `ramp` as in `lock_colour`.
    """
    if strength == 0 or not len(frames):
        return frames
    gain = anchor.detail.to(frames.device) / look_of(frames).detail.clamp(min=1e-6)  # [T, 4]
    gain = gain.clamp(1.0, DETAIL_LIMIT) ** (strength * _reached(len(frames), ramp).to(gain))
    smooth = _smooth(frames)
    return smooth + gain.to(frames)[..., None, None] * (frames - smooth)


def _smooth(latents: Tensor) -> Tensor:
    """The mean of each cell and its eight neighbours."""
    return F.avg_pool2d(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _reached(frames: int, ramp: int) -> Tensor:
    """The share [T, 1] of a correction that each frame behind a join gets."""
    return ((torch.arange(frames, dtype=torch.float64) + 1) / (ramp + 1)).clamp(max=1)[:, None]


def _even_course(values: Tensor) -> Tensor:
    """The straight line through `values` [T, C] over time, by least squares; few values have none but their mean."""
    time = torch.arange(len(values)).to(values)[:, None]
    time = time - time.mean()
    mean = values.mean(0)
    if len(values) < 4:
        return mean.expand_as(values)
    return mean + time * ((time * (values - mean)).sum(0) / time.pow(2).sum())


def _regraded(frames: Tensor, mean: Tensor, wanted: Tensor, gain: Tensor) -> Tensor:
    """`frames` with means (per channel, or per frame and channel) and contrasts moved."""
    parts = (part.to(frames).reshape(-1, frames.shape[1], 1, 1) for part in (mean, wanted, gain))
    mean, wanted, gain = parts
    return wanted + gain * (frames - mean)


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
