"""The colour lock of extended clips: keep colour, contrast and detail where the first clip had them.

First in latents, whose four channels carry colour and brightness nearly linearly (`match_overlap`, `lock_colour`,
`keep_detail`), then in the decoded frames for what is left (`LookLock`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.reading import lay_out
from ..sampling.controls import Control
from .strength import check_share

GAIN_LIMITS = (0.8, 1.25)  # largest change of contrast, whatever the scene does
MATCH_LIMITS = (0.9, 1.1)
DETAIL_LIMIT = 1.4  # lost detail cannot be amplified without end
RIDGE = 0.01  # share of the variance that pulls a fitted gain to 1, for channels that hardly vary
LEAST_CONTRAST = 1e-3  # lower contrast counts as this


class Look(NamedTuple):
    """Mean, standard deviation and root mean square detail of each latent channel: [T, 4] or [4] each.

    They are float64 on the CPU, because some accelerators have no float64.
    """

    mean: Tensor
    spread: Tensor
    detail: Tensor


def look_of(latents: Tensor) -> Look:
    """Return the look of each frame of `latents` [T, 4, h, w]: [T, 4] each."""
    latents = lay_out(latents.cpu())
    flat = latents.double().flatten(2)
    fine = latents - _smooth(latents)
    return Look(flat.mean(2), flat.std(2, unbiased=False), fine.double().pow(2).mean((2, 3)).sqrt())


def mean_look(latents: Tensor) -> Look:
    """Return the average look of a clip [T, 4, h, w]: [4] each."""
    return Look(*(part.mean(0) for part in look_of(latents)))


def match_overlap(chunk: Tensor, known: Tensor, strength: float) -> Tensor:
    """Return `chunk` [T, 4, h, w] with gain and offset of each channel matched to `known` [K, 4, h, w].

    The first K frames of the chunk show the same as `known`, so an overall difference is colour, not motion.
    strength: share of the correction, 0..1.
    """
    chunk, known = lay_out(chunk), lay_out(known)
    both = (chunk[: len(known)], known)
    ours, theirs = (part.cpu().double().transpose(0, 1).flatten(1) for part in both)  # [4, K*h*w]
    mean, wanted = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    variance = (ours - mean).pow(2).mean(1)
    pull = RIDGE * variance + torch.finfo(torch.float32).tiny
    gain = (((ours - mean) * (theirs - wanted)).mean(1) + pull) / (variance + pull)
    gain = 1 + strength * (gain.clamp(*MATCH_LIMITS) - 1)
    return _regrade(chunk, mean[:, 0], mean[:, 0] + strength * (wanted - mean)[:, 0], gain)


def lock_colour(frames: Tensor, anchor: Look, strength: float, ramp: int) -> Tensor:
    """Return `frames` [T, 4, h, w], which follow the join, with mean and spread pulled to those of the first clip.

    The correction follows straight lines over time, so flicker and motion stay as they are. strength: share of the way
    to `anchor`, 0..1. It is reached over the first `ramp` frames, so that the join shows no step.
    """
    if strength == 0 or not len(frames):
        return frames
    frames = lay_out(frames)
    look = look_of(frames)
    mean, spread = _line_fit(look.mean), _line_fit(look.spread).clamp(min=1e-6)
    share = strength * _ramp(len(frames), ramp).to(mean)  # [T, 1]
    gain = (anchor.spread.to(mean).clamp(min=1e-6) / spread).clamp(*GAIN_LIMITS) ** share
    return _regrade(frames, mean, mean + share * (anchor.mean.to(mean) - mean), gain)


def keep_detail(frames: Tensor, anchor: Look, strength: float, ramp: int) -> Tensor:
    """Return `frames` [T, 4, h, w] with their detail raised to that of the first clip, never lowered.

    Each chunk loses a little detail and would pass the loss on. strength, ramp: as in `lock_colour`.
    """
    if strength == 0 or not len(frames):
        return frames
    frames = lay_out(frames)
    gain = anchor.detail / look_of(frames).detail.clamp(min=1e-6)  # [T, 4]
    gain = gain.clamp(1.0, DETAIL_LIMIT) ** (strength * _ramp(len(frames), ramp).to(gain))
    smooth = _smooth(frames)
    return smooth + gain.to(frames)[..., None, None] * (frames - smooth)


@dataclass(frozen=True, eq=False)
class LookLock(Control):
    """Match the mean colour and contrast of later decoded frames to those of the first `frames` frames.

    The lock in latents keeps their statistics, but contrast in latents is only nearly contrast in pixels. This control
    removes the drift that is left. It is smooth over time, so flicker and motion stay.

    strength: share of the correction, 0..1; 0 is off. ramp: frames after the join until the correction is full; the
    statistics of a frame are averaged over as many neighbours on each side.
    """

    frames: int
    strength: float = 1.0
    ramp: int = 4

    edits_frames = True

    def __post_init__(self) -> None:
        check_share("the strength of LookLock", self.strength, "use 0.9, or 0 to switch it off")
        if self.frames < 1 or self.ramp < 0:
            raise ValueError(
                f"LookLock needs frames >= 1 and ramp >= 0 (got {self.frames} and {self.ramp}); pass the length of the "
                "first clip and its overlap"
            )

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with later ones regraded; a clip that was not extended stays as it is."""
        if len(frames) <= self.frames:
            return frames
        frames = lay_out(frames)
        looks = torch.stack([_colour_and_contrast(frame) for frame in frames])  # [T, 4]
        wanted, own = looks[: self.frames].mean(0), _running_mean(looks, self.ramp)
        late = torch.arange(len(frames) - self.frames)
        share = self.strength * ((late + 1) / (self.ramp + 1)).clamp(max=1)
        locked = frames.clone()
        for k, amount in zip(late.tolist(), share.tolist(), strict=True):
            frame, look = frames[self.frames + k], own[self.frames + k]
            gain = float((wanted[3] / look[3]).clamp(*GAIN_LIMITS)) ** amount
            middle = look[:3] + amount * (wanted[:3] - look[:3])
            locked[self.frames + k] = (middle.to(frame) + gain * (frame - look[:3].to(frame))).clamp(0, 1)
        return locked


def _smooth(latents: Tensor) -> Tensor:
    """Return the mean of each cell and its eight neighbours."""
    return F.avg_pool2d(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _ramp(frames: int, ramp: int) -> Tensor:
    """Return the share [T, 1] of a correction for each frame after a join."""
    return ((torch.arange(frames, dtype=torch.float64) + 1) / (ramp + 1)).clamp(max=1)[:, None]


def _line_fit(values: Tensor) -> Tensor:
    """Return the least-squares line through `values` [T, C] over time, or their mean for fewer than four."""
    time = torch.arange(len(values)).to(values)[:, None]
    time = time - time.mean()
    mean = values.mean(0)
    if len(values) < 4:
        return mean.expand_as(values)
    return mean + time * ((time * (values - mean)).sum(0) / time.pow(2).sum())


def _regrade(frames: Tensor, mean: Tensor, wanted: Tensor, gain: Tensor) -> Tensor:
    """Return `frames` with contrast scaled by `gain` and `mean` moved to `wanted`, per channel or frame and channel."""
    parts = (part.to(frames).reshape(-1, frames.shape[1], 1, 1) for part in (mean, wanted, gain))
    mean, wanted, gain = parts
    return wanted + gain * (frames - mean)


def _colour_and_contrast(frame: Tensor) -> Tensor:
    """Return mean red, green and blue, and the deviation of luminance, of a frame [H, W, 3]: [4] on the CPU."""
    # Imported here because ComfyUI imports every pack at its start, and few starts need optical flow.
    from ..flow.planes import luminance

    frame = frame.float()
    contrast = luminance(frame).std(correction=0).clamp(min=LEAST_CONTRAST)
    return torch.cat([frame.mean((0, 1)), contrast[None]]).cpu().double()


def _running_mean(values: Tensor, radius: int) -> Tensor:
    """Return `values` [T, C], each averaged with `radius` neighbours per side, fewer near the ends."""
    last = len(values) - 1
    rows = []
    for t in range(len(values)):
        reach = min(radius, t, last - t)
        rows.append(values[t - reach : t + reach + 1].mean(0))
    return torch.stack(rows)
