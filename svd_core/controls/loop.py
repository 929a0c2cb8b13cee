"""Seamless loops: the first frame follows the last as any frame follows the one before.

Real motion that returns comes from a clip whose start picture is its end picture too (between.py); this file has the
other way, the rolled clip, and what both need: decoding that sees the join.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.controls import Control, Evaluate, Inputs, Run
from .between import check_strength, reach

EVEN = 1.4  # times the median step of a loop that the steps at its join may be
HALVINGS = 20
FARTHEST = 0.8  # of the way to the mean of the neighbours: at half of it a rolled loop still leapt by 1.57 steps
HOLD = 0.3  # below it nothing rolls, so that fine detail settles
CONTEXT = 4  # frames from across the join that are decoded along


@dataclass(frozen=True, eq=False)
class LatentRoll(Control):
    """Roll the frames before every evaluation and back after it, so that no join is at the end for the model (Mobius,
    Bi et al. 2025). No evaluation more than usual.

    SVD's first frame is always the still, so with the roll every frame is drawn to it: flicker of light, water, smoke;
    no travel. With few steps the join stays visible; 25 close it. Per-frame guidance and motion numbers keep their
    places in what the model sees. `sigma`, for 1024x576: below it nothing rolls. Strength moves that level up: 0 is
    off.
    """

    strength: float = 1.0
    sigma: float = HOLD

    closed = True

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not self.sigma > 0:
            raise ValueError(f"the roll ends at sigma {self.sigma:g}, but it must be above 0; use 0.3")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Roll a stride further at each evaluation."""
        evaluations = 0

        def rolled(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            nonlocal evaluations
            if sigma <= reach(run, self.sigma, self.strength):
                return evaluate(x, sigma, inputs)
            shift = evaluations * roll_stride(len(x)) % len(x)
            evaluations += 1
            features = inputs.features_of(torch.arange(len(x)).roll(-shift))
            return evaluate(x.roll(-shift, 0), sigma, inputs._replace(features=features)).roll(shift, 0)

        return rolled


@dataclass(frozen=True, eq=False)
class EvenJoin(Control):
    """Ease the first frame of a decoded loop towards its neighbours until its steps to them are like the others.

    It goes towards their mean, only as far as its larger step is above `limit` times the median step, and four fifths
    of the way at most. A loop that closes by itself stays bit for bit what it is.
    """

    limit: float = EVEN

    closed = True
    edits_frames = True

    def __post_init__(self) -> None:
        if not self.limit >= 1:
            raise ValueError(f"the join's limit is {self.limit:g}, but it must be 1 or above; use 1.4")

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] with another first one where it leaps."""
        if len(frames) < 4:
            return frames
        steps = torch.stack([(a - b).abs().mean() for a, b in zip(frames, frames.roll(-1, 0), strict=True)])
        if torch.maximum(steps[0], steps[-1]) <= self.limit * steps[:-1].median():
            return frames
        beside = frames[[-1, 1]]
        middle = beside.mean(0)

        def eased(share: float) -> Tensor:
            return torch.lerp(frames[0], middle, share)

        def fits(share: float) -> bool:
            # The first step counts in the median too, and shrinks as the frame is eased.
            last, first = (eased(share) - beside).abs().mean((1, 2, 3))
            return bool(torch.maximum(first, last) <= self.limit * torch.cat([first[None], steps[1:-1]]).median())

        low, high = 0.0, FARTHEST
        for _ in range(HALVINGS):
            share = (low + high) / 2
            low, high = (low, share) if fits(share) else (share, high)
        return torch.cat([eased(high)[None], frames[1:]])


def roll_stride(frames: int) -> int:
    """Return how far the clip rolls from one evaluation to the next: about half of it, and every frame has its turn."""
    return next((s for s in range(frames // 2 + 1, frames) if math.gcd(s, frames) == 1), 1)


def decode_closed(decode: Callable[[Tensor], Tensor], latents: Tensor, context: int = CONTEXT) -> Tensor:
    """Return decode(latents) [T, ...] of a loop, the frames beside the join decoded with those on its other side.

    `decode` takes [N, 4, h, w] to N frames, and gets `context` frames more at both ends.
    """
    frames = len(latents)
    index = torch.arange(-context, frames + context, device=latents.device) % frames
    return decode(latents[index])[context : context + frames]
