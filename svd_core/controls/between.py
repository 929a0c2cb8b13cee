"""First and last frame with the base weights: the model sees the clip from its start picture and from its end picture.

Two ways: steps in turns, forward and backward (`TakeTurns`), or both estimates blended over the frames (`Blend`).
Either evaluates the model twice a step.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..sampling.controls import Control, Denoise, Evaluate, Inputs, Run, Start

RELEASE = 0.05  # ViBiD goes on forward alone below it
SETTLED = 16.0  # below it the layout stands, and the ends of a loop need no picture to hold on to
TURN = 0.5  # share of a loop over which it turns from going to returning


def reach(run: Run, sigma: float, strength: float) -> float:
    """Return the level down to which a control works that is meant to work down to `sigma` at 1024x576.

    Strength goes in even steps of the logarithm from the run's first sigma (0) to the scaled sigma (1) and further.
    """
    first = run.sigmas[0]
    return first * (min(sigma * run.scale, first) / first) ** strength


def check_strength(strength: float) -> None:
    """Raise ValueError unless the strength is a number of 0 or above."""
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"the strength is {strength:g}, but it must be 0 or above; use 1, or 0.5 for a rough meeting")


@dataclass(frozen=True, eq=False)
class Inbetween(Control):
    """What both ways share: the end picture's condition, and both ends held at the pictures in every estimate.

    `end` is the condition of the end picture, made with the same motion numbers as the run's; only its token and latent
    are used. `first` and `last` [1, 4, h, w] are the scaled latents of the clean pictures. Below `sigma` (for 1024x576)
    the model looks from the start alone. Strength below 1 moves that level up and lets go of both ends there: 0 is off,
    0.5 meets the end picture roughly.

    `tied`: both pictures are one, and the clip will be a loop. Once the layout stands, both ends are then held at their
    common mean: as soft or sharp as their neighbours, while the picture itself would stand out once in every round. As
    both views agree on the middle of such a clip, one takes over from the other around it alone, over the share TURN of
    the clip; from end to end, an even motion would be fast at the ends and slow in the middle, so that the join leaps.
    """

    end: Any
    first: Tensor
    last: Tensor
    strength: float = 1.0
    sigma: float = RELEASE
    tied: bool = False

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not self.sigma > 0:
            raise ValueError(f"the end picture is released at sigma {self.sigma:g}, but it must be above 0; use 0.05")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def begin(self, run: Run, start: Start) -> Start:
        """Change nothing, but find pictures of another size before the first step."""
        frames, *shape = run.noise.shape
        for name, latent in (("start", self.first), ("end", self.last)):
            if list(latent.shape) != [1, *shape]:
                raise ValueError(
                    f"the {name} picture's latent has shape {list(latent.shape)}, but the clip needs {[1, *shape]}; "
                    "encode both pictures at the size of the clip"
                )
        if frames < 3:
            raise ValueError(f"the clip has {frames} frames, but two pictures and what is between need 3; use 14 or 25")
        return start

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold both ends, at full strength to the last."""
        if self.strength < 1 and sigma <= self._level(run):
            return estimate
        if self.tied and sigma <= SETTLED * run.scale:
            mean = (estimate[:1] + estimate[-1:]) / 2
            return torch.cat([mean, estimate[1:-1], mean])
        return torch.cat([self.first.to(estimate), estimate[1:-1], self.last.to(estimate)])

    def _level(self, run: Run) -> float:
        return reach(run, self.sigma, self.strength)

    def _shares(self, x: Tensor) -> Tensor:
        """How far each frame goes by the view from the end, 0 to 1: [T, 1, 1, 1]."""
        position = _position(x)
        return ((position - 0.5) / TURN + 0.5).clamp(0, 1) if self.tied else position

    def _from_end(self, evaluate: Evaluate, x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
        """The estimate [T, 4, h, w], in the order of the clip, of the clip seen from its end picture."""
        turned = inputs._replace(
            condition=_with_picture(inputs.condition, self.end),
            unconditional=_without_or_with_picture(inputs.unconditional, self.end),
        ).turned()
        # Guidance grows with the distance from the condition's picture, so it is not turned with the clip.
        return evaluate(x.flip(0), sigma, turned._replace(guidance=inputs.guidance)).flip(0)


@dataclass(frozen=True, eq=False)
class TakeTurns(Inbetween):
    """Step forward, noise the result again, and make the step anew from the end (ViBiDSampler, Yang et al. 2025).

    Two things differ from ViBiD. It steps with CFG++; here the forward step is the solver's own and the backward one
    Euler's, with the run's guidance. And the step from the end, which comes last, would undo what the start picture
    says of its own neighbours: with the embedded model the clip jumped behind its first frame. So its estimate takes
    over from the forward one evenly up to the middle of the clip, and stands alone from there; in a loop, around the
    middle.
    """

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Keep the estimate from the start for the one from the end, and in a loop the other way round."""
        forward: Tensor | None = None
        backward: Tensor | None = None

        def turns(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            nonlocal forward, backward
            if inputs.backward and forward is not None:
                backward = self._from_end(evaluate, x, sigma, inputs)
                return torch.lerp(forward, backward, self._shares(x))
            forward = evaluate(x, sigma, inputs)
            if not self.tied or backward is None or run.below(sigma) <= self._level(run):
                return forward
            # What is seen from the end has its turn when this step has been noised again, and only waits here.
            return torch.lerp(forward, backward, self._shares(x))

        return turns

    def _shares(self, x: Tensor) -> Tensor:
        return super()._shares(x) if self.tied else (2 * _position(x)).clamp(max=1)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
        """Make the step that led to `sigma` again, backward."""
        if sigma <= self._level(run):
            return x
        forward, above = x, run.above(sigma)
        x = x + math.sqrt(above**2 - sigma**2) * run.fresh_noise()
        estimate = denoise(x, above, run.inputs._replace(backward=True), edited=True)
        turned = estimate + (x - estimate) * (sigma / above)
        # What goes by the start alone has made its step.
        return torch.where(self._shares(x) > 0, turned, forward)


@dataclass(frozen=True, eq=False)
class Blend(Inbetween):
    """Blend both estimates of one state, with weights that fall evenly from the own picture to the other.

    As Time Reversal Fusion does (TRF, Feng et al. 2024) without its repeats. Smooth; where the two motions disagree,
    the middle shows both.
    """

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate both ways."""

        def blended(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            forward = evaluate(x, sigma, inputs)
            if sigma <= self._level(run):
                return forward
            return torch.lerp(forward, self._from_end(evaluate, x, sigma, inputs), self._shares(x))

        return blended


MODES: dict[str, type[Inbetween]] = {"take turns": TakeTurns, "blend": Blend}
"""Ways to reach an end picture, by name."""


def inbetween_control(
    mode: str, end: Any, first: Tensor, last: Tensor, *, strength: float = 1.0, tied: bool = False
) -> Inbetween:
    """Return the control that leads a clip from its start picture to an end picture in the way called `mode`.

    The others as in Inbetween. ValueError for unknown modes.
    """
    if mode not in MODES:
        raise ValueError(f"the mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    return MODES[mode](end, first, last, strength, tied=tied)


def _position(x: Tensor) -> Tensor:
    """Where each frame is in the clip, 0 to 1: [T, 1, 1, 1]."""
    return torch.linspace(0, 1, len(x)).to(x).reshape(-1, *[1] * (x.dim() - 1))


def _with_picture(condition: Any, end: Any) -> Any:
    """`condition` looking from the end picture; its motion numbers, which other controls may have changed, stay."""
    return replace(condition, token=end.token, latent=end.latent) if hasattr(condition, "vector") else end


def _without_or_with_picture(other: Any, end: Any) -> Any:
    """The unconditional branch: what it has of the start picture, usually nothing, becomes the end picture's."""
    if other is None:
        return None
    if not hasattr(other, "vector"):
        return other
    parts = {"token": end.token, "latent": end.latent}
    return replace(other, **{name: part for name, part in parts.items() if bool(getattr(other, name).any())})
