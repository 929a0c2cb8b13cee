"""Pictures that a clip passes through, given back in its finished frames what the autoencoder took from them."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pictures.fitting import resize
from ..sampling.controls import Control

log = logging.getLogger("svd_reel")

LARGEST = 1.8  # times the median step that the step to a kept picture may become
HALVINGS = 20


@dataclass(frozen=True, eq=False)
class KeptEnds(Control):
    """Bring the frames at `places` to `pictures` [P, 3, H, W] in 0..1 when a clip of `frames` frames is decoded.

    Each goes the share `strength` of the way (0 is off), or only as far as its steps to its neighbours, which keep the
    autoencoder's softness, stay within LARGEST times the median step of the clip. So the weights published for SVD show
    the picture itself, and a coarse autoencoder comes nearer to it without a jump. `closed`: the last frame is followed
    by the first. The sampling is as without.
    """

    pictures: Tensor
    places: tuple[int, ...]
    frames: int
    strength: float = 1.0
    closed: bool = False

    edits_frames = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the pictures are kept by {self.strength:g}, but it must be from 0 to 1; use 1, or 0")
        if len(self.pictures) != len(self.places) or not all(0 <= place < self.frames for place in self.places):
            raise ValueError(
                f"{len(self.pictures)} pictures are to be kept at the frames {list(self.places)} of {self.frames}; "
                "give a frame of the clip for each"
            )

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with those at the pictures brought to them."""
        if len(frames) < self.frames or self.closed and len(frames) > self.frames:
            log.warning(
                "the clip has %d frames, its pictures were kept for %d; they are left out", len(frames), self.frames
            )
            return frames
        height, width = frames.shape[1:3]
        pictures = resize(self.pictures, width, height).clamp(0, 1).to(frames).movedim(1, -1)  # [P, H, W, 3]
        steps = torch.stack([_step(frames[k], frames[k + 1]) for k in range(len(frames) - 1)])
        kept = frames.clone()
        for picture, place in zip(pictures, self.places, strict=True):
            around = (place - 1, place + 1)
            beside = [k % self.frames for k in around if self.closed or 0 <= k < len(frames)]
            share = self.strength * _share(frames[place], picture, frames[beside], LARGEST * steps.median())
            kept[place] = picture if share == 1 else torch.lerp(frames[place], picture, share)
        return kept


def keep_ends(pictures: Tensor, frames: int, *, closed: bool = False, strength: float = 1.0) -> tuple[KeptEnds, ...]:
    """Return what keeps fitted pictures [P, 3, H, W] in -1..1 in a chain of clips of `frames` frames between them.

    `closed`: the chain returns to the first picture. Of one picture, whose loop meets it softly, and for ends that are
    met roughly (`strength` below 1) nothing is kept.
    """
    if len(pictures) == 1 or strength < 1:
        return ()
    places = tuple((frames - 1) * number for number in range(len(pictures)))
    length = places[-1] + (frames - 1 if closed else 1)
    return (KeptEnds(((pictures.float().cpu() + 1) / 2).clamp(0, 1), places, length, closed=closed),)


def _share(frame: Tensor, picture: Tensor, beside: Tensor, largest: Tensor) -> float:
    """How far [H, W, 3] `frame` may go to `picture` until a step to its neighbours is above `largest`, 0 to 1."""
    limits = [torch.maximum(largest, _step(frame, other)) for other in beside]

    def fits(share: float) -> bool:
        moved = torch.lerp(frame, picture, share)
        return all(bool(_step(moved, other) <= limit) for other, limit in zip(beside, limits, strict=True))

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _step(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of two frames."""
    return (one.float() - other.float()).abs().mean()
