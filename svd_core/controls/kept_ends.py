"""Restore the pictures that a clip passes through in its decoded frames, where the autoencoder lost their detail."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pictures.fitting import resize
from ..pictures.reading import lay_out
from ..sampling.controls import Control
from .strength import check_share

log = logging.getLogger("svd_reel")

LARGEST_STEP = 1.8  # times the median step that the step to a restored picture may become
BISECTIONS = 20


@dataclass(frozen=True, eq=False)
class KeptEnds(Control):
    """Move the decoded frames at `places` towards `pictures` [P, 3, H, W] in 0..1.

    Each frame moves the share `strength` of the way, but only as far as the steps to its neighbours stay within
    LARGEST_STEP times the median step of the clip, because the neighbours remain as soft as the autoencoder made them.
    So with the weights published for SVD the picture itself is shown, and a coarse autoencoder comes closer to it
    without a jump. Sampling does not change.

    frames: length of the clip. strength: 0 is off. closed: the last frame is followed by the first.
    """

    pictures: Tensor
    places: tuple[int, ...]
    frames: int
    strength: float = 1.0
    closed: bool = False

    edits_frames = True

    def __post_init__(self) -> None:
        check_share("the strength of the end pictures", self.strength, "use 1, or 0 to switch it off")
        if len(self.pictures) != len(self.places) or not all(0 <= place < self.frames for place in self.places):
            raise ValueError(
                f"each end picture needs a frame of the clip (got {len(self.pictures)} pictures at the frames "
                f"{list(self.places)} of {self.frames}); give one frame per picture, 0 to {self.frames - 1}"
            )

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with the end pictures restored; other lengths stay as they are."""
        if len(frames) < self.frames or self.closed and len(frames) > self.frames:
            log.warning("expected %d frames, got %d; end pictures not restored", self.frames, len(frames))
            return frames
        frames = lay_out(frames)
        height, width = frames.shape[1:3]
        pictures = resize(lay_out(self.pictures), width, height).clamp(0, 1).to(frames)
        pictures = lay_out(pictures.movedim(1, -1))  # [P, H, W, 3]
        steps = torch.stack([_step(frames[k], frames[k + 1]) for k in range(len(frames) - 1)])
        kept = frames.clone()
        for picture, place in zip(pictures, self.places, strict=True):
            around = (place - 1, place + 1)
            beside = [k % self.frames for k in around if self.closed or 0 <= k < len(frames)]
            share = self.strength * _share(frames[place], picture, frames[beside], LARGEST_STEP * steps.median())
            kept[place] = picture if share == 1 else torch.lerp(frames[place], picture, share)
        return kept


def keep_ends(pictures: Tensor, frames: int, *, closed: bool = False, strength: float = 1.0) -> tuple[KeptEnds, ...]:
    """Return the control for a chain of clips of `frames` frames between fitted pictures [P, 3, H, W] in -1..1.

    closed: the chain returns to the first picture. Returns nothing for one picture, whose loop passes it softly, and
    for a `strength` below 1, which reaches the ends only roughly.
    """
    if len(pictures) == 1 or strength < 1:
        return ()
    places = tuple((frames - 1) * number for number in range(len(pictures)))
    length = places[-1] + (frames - 1 if closed else 1)
    return (KeptEnds(((pictures.float().cpu() + 1) / 2).clamp(0, 1), places, length, closed=closed),)


def _share(frame: Tensor, picture: Tensor, beside: Tensor, largest: Tensor) -> float:
    """Return how far `frame` [H, W, 3] can move to `picture`, 0 to 1, with no step to a neighbour above `largest`.

    A step that is larger already may stay as large as it is.
    """
    limits = [torch.maximum(largest, _step(frame, other)) for other in beside]

    def fits(share: float) -> bool:
        moved = torch.lerp(frame, picture, share)
        return all(bool(_step(moved, other) <= limit) for other, limit in zip(beside, limits, strict=True))

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _step(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean absolute difference of two frames."""
    return (one.float() - other.float()).abs().mean()
