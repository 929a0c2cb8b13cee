"""The colour lock of extended clips: what keeps colour and contrast where the first clip had them.

Works on latents, whose four channels carry colour and brightness nearly linearly. Knows no model.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
