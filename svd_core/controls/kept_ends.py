"""Restore the pictures that a clip passes through in its decoded frames, where the autoencoder lost their detail."""

import logging
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.between import sides_of
from ..flow.dense import enlarge, warp_back
from ..pictures.fitting import resize
from ..pictures.reading import lay_out
from ..sampling.controls import Control
from .strength import check_share

log = logging.getLogger("svd_reel")

LARGEST_STEP = 1.8  # times the median step that the step to a restored picture may become
BISECTIONS = 20
MOTION_SIDE = 256  # longer side in pixels at which the motion of details is estimated


@dataclass(frozen=True, eq=False)
class KeptEnds(Control):
    """Move the decoded frames at `places` towards `pictures` [P, 3, H, W] in 0..1.

    What the autoencoder lost there is also carried along the motion to the frames beside, less with every frame, so
    that detail does not flash up at the ends. It is added only where a frame shows the same thing. Then each end moves
    the share `strength` of the way, but only as far as the steps to its neighbours stay within LARGEST_STEP times the
    median step of the clip. Sampling does not change.

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
        frames = self._with_detail(frames, pictures)
        steps = torch.stack([_step(frames[k], frames[k + 1]) for k in range(len(frames) - 1)])
        kept = frames.clone()
        for picture, place in zip(pictures, self.places, strict=True):
            around = (place - 1, place + 1)
            beside = [k % self.frames for k in around if self.closed or 0 <= k < len(frames)]
            share = self.strength * _share(frames[place], picture, frames[beside], LARGEST_STEP * steps.median())
            kept[place] = picture if share == 1 else torch.lerp(frames[place], picture, share)
        return kept

    def _with_detail(self, frames: Tensor, pictures: Tensor) -> Tensor:
        """Return the frames with what is lost at the ends, carried along the motion: [T, H, W, 3]."""
        ends = dict(zip(self.places, pictures, strict=True))
        if self.closed:
            ends[self.frames] = pictures[0]  # the loop returns to it
        places, detailed = sorted(ends), frames.clone()
        for before, after in pairwise(places):
            for place in range(before + 1, after):
                share = (place - before) / (after - before)
                for end, weight in ((before, 1 - share), (after, share)):
                    shown = frames[end % self.frames]
                    lost = ends[end] - shown
                    detailed[place] += weight * self.strength * _carried(lost, shown, frames[place])
        return detailed.clamp(0, 1)


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


def _carried(lost: Tensor, shown: Tensor, frame: Tensor) -> Tensor:
    """Return the detail `lost` [H, W, 3] of the frame `shown`, moved to where another `frame` shows the same thing."""
    if not bool(lost.any()):
        return lost
    side, _ = sides_of(frame, shown, MOTION_SIDE)
    height, width = frame.shape[:2]
    flow = enlarge(side.flow, (height, width))
    moved, _ = warp_back(lost.movedim(-1, 0)[None], flow, mode="bicubic")
    trust = F.interpolate(side.fit * (1 - side.hidden), (height, width), mode="bilinear", align_corners=False)
    return (moved * trust)[0].movedim(0, -1)


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
