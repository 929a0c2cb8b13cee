"""Seamless loops: the last frame leads to the first as any frame leads to the next.

Real motion that returns comes from a clip that starts and ends at the same picture (between.py). This file has the
other method, the rolled clip, and what both need in the decoded frames: decoding across the join, and easing it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pictures.reading import lay_out
from ..sampling.controls import Control, Evaluate, Inputs, Run
from .strength import check_sigma, check_strength, release_level

JOIN_LIMIT = 1.4  # times the median step of a loop that the steps at its join may be
HALVINGS = 20
FARTHEST = 0.8  # of the way to the mean of the neighbours; with 0.5 a rolled loop still jumped by 1.57 steps
ROLL_END = 0.3  # below this sigma nothing rolls, so that fine detail settles
CONTEXT = 4  # frames from across the join that are decoded as well


@dataclass(frozen=True, eq=False)
class LatentRoll(Control):
    """Roll the frames before every evaluation and back after it, so that the join moves (Mobius, Bi et al. 2025).

    It needs no extra evaluation. The first frame that SVD sees is always the still, so every frame is drawn to it. That
    suits flicker of light, water and smoke, but nothing travels. With few steps the join stays visible; 25 steps close
    it. Guidance and motion numbers per frame keep their places in what the model sees.

    strength: moves the level at which the roll ends up; 0 is off. sigma: where it ends, for 1024x576.
    """

    strength: float = 1.0
    sigma: float = ROLL_END

    closed = True

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_sigma("the sigma that ends the roll", self.sigma, "use 0.3")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Roll one stride further at each evaluation."""
        evaluations = 0

        def rolled(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            nonlocal evaluations
            if sigma <= release_level(run, self.sigma, self.strength):
                return evaluate(x, sigma, inputs)
            shift = evaluations * roll_stride(len(x)) % len(x)
            evaluations += 1
            features = inputs.features_of(torch.arange(len(x)).roll(-shift))
            return evaluate(x.roll(-shift, 0), sigma, inputs._replace(features=features)).roll(shift, 0)

        return rolled


@dataclass(frozen=True, eq=False)
class EvenJoin(Control):
    """Ease the first frame of a decoded loop towards its neighbours until its steps are like the others.

    The frame moves towards the mean of its neighbours, only while its larger step is above `limit` times the median
    step, and at most FARTHEST of the way. A loop that closes by itself stays bit for bit what it is.
    """

    limit: float = JOIN_LIMIT

    closed = True
    edits_frames = True

    def __post_init__(self) -> None:
        if not self.limit >= 1:
            raise ValueError(f"the limit of the join must be 1 or above (got {self.limit:g}); use 1.4")

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3], the first one eased if it jumps."""
        if len(frames) < 4:
            return frames
        frames = lay_out(frames)
        steps = torch.stack([(a - b).abs().mean() for a, b in zip(frames, frames.roll(-1, 0), strict=True)])
        if torch.maximum(steps[0], steps[-1]) <= self.limit * steps[:-1].median():
            return frames
        beside = frames[[-1, 1]]
        middle = beside.mean(0)

        def eased(share: float) -> Tensor:
            return torch.lerp(frames[0], middle, share)

        def fits(share: float) -> bool:
            # The first step is part of the median too, and shrinks as the frame is eased.
            last, first = (eased(share) - beside).abs().mean((1, 2, 3))
            return bool(torch.maximum(first, last) <= self.limit * torch.cat([first[None], steps[1:-1]]).median())

        low, high = 0.0, FARTHEST
        for _ in range(HALVINGS):
            share = (low + high) / 2
            low, high = (low, share) if fits(share) else (share, high)
        return torch.cat([eased(high)[None], frames[1:]])


def roll_stride(frames: int) -> int:
    """Return how far a clip rolls per evaluation: about half of it, so that every frame is first once in a cycle."""
    return next((s for s in range(frames // 2 + 1, frames) if math.gcd(s, frames) == 1), 1)


def decode_closed(decode: Callable[[Tensor], Tensor], latents: Tensor, context: int = CONTEXT) -> Tensor:
    """Return decode(latents) [T, ...] of a loop, with frames beside the join decoded in their context across it.

    decode: returns N frames of latents [N, 4, h, w]; it receives `context` more frames at both ends.
    """
    frames = len(latents)
    index = torch.arange(-context, frames + context, device=latents.device) % frames
    return decode(latents[index])[context : context + frames]
