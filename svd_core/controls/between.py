"""In-betweens with the base weights: the model sees the clip from its start picture and from its end picture.

Two modes: alternate steps forward and backward (`TakeTurns`), or blend both estimates over the frames (`Blend`). Both
evaluate the model twice per step.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..pictures.reading import lay_out
from ..sampling.controls import Control, Denoise, Evaluate, Inputs, Run, Start
from .strength import check_share, check_sigma, check_strength, release_level

RELEASE = 0.05  # below it ViBiD continues forward only
SETTLED = 16.0  # below it the layout stands, and the ends of a loop no longer need the picture itself
TURN = 0.5  # share of a loop over which the backward view takes over from the forward one


@dataclass(frozen=True, eq=False)
class Inbetween(Control):
    """Base of both modes: holds both ends at the pictures in every estimate.

    end: condition of the end picture, made with the motion numbers of the run; only its token and latent are used.
    first, last: scaled latents [1, 4, h, w] of the clean pictures.
    strength: 0 is off, 1 holds both ends throughout. Below 1 the ends are released earlier, so 0.5 reaches the end
    picture only roughly.
    sigma: below it (for 1024x576) only the view from the start is used.
    tied: both pictures are the same and the clip will be a loop. Once the layout stands, both ends are then held at
    their common mean, which is as sharp as their neighbours; the picture itself would stand out once per round. The two
    views of such a clip agree in the middle, so one takes over from the other there, over the share TURN of the clip.
    Taking over from end to end would make an even motion fast at the ends and slow in the middle, with a jump at the
    join.
    """

    end: Any
    first: Tensor
    last: Tensor
    strength: float = 1.0
    sigma: float = RELEASE
    tied: bool = False

    def __post_init__(self) -> None:
        check_strength(self.strength, "use 1, or 0.5 to reach the end picture roughly")
        check_sigma("the sigma that releases the end picture", self.sigma, "use 0.05")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def begin(self, run: Run, start: Start) -> Start:
        """Return the start unchanged; raises ValueError for pictures of another size or fewer than 3 frames."""
        frames, *shape = run.noise.shape
        for name, latent in (("start", self.first), ("end", self.last)):
            if list(latent.shape) != [1, *shape]:
                raise ValueError(
                    f"the latent of the {name} picture has shape {list(latent.shape)}, but the clip needs "
                    f"{[1, *shape]}; encode both pictures at the size of the clip"
                )
        if frames < 3:
            raise ValueError(f"a clip between two pictures needs at least 3 frames (got {frames}); use 14 or 25")
        return start

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold both ends; at full strength down to the last step."""
        if self.strength < 1 and sigma <= self._level(run):
            return estimate
        if self.tied and sigma <= SETTLED * run.scale:
            mean = (estimate[:1] + estimate[-1:]) / 2
            return torch.cat([mean, estimate[1:-1], mean])
        return torch.cat([self.first.to(estimate), estimate[1:-1], self.last.to(estimate)])

    def _level(self, run: Run) -> float:
        return release_level(run, self.sigma, self.strength)

    def _shares(self, x: Tensor) -> Tensor:
        """Return the weight of the view from the end in each frame, 0 to 1: [T, 1, 1, 1]."""
        position = position_of(x)
        return ((position - 0.5) / TURN + 0.5).clamp(0, 1) if self.tied else position

    def _from_end(self, evaluate: Evaluate, x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
        """Return the estimate [T, 4, h, w] of the clip seen from its end picture, in the order of the clip."""
        turned = inputs._replace(
            condition=_with_picture(inputs.condition, self.end),
            unconditional=_without_or_with_picture(inputs.unconditional, self.end),
        ).turned()
        # Guidance grows with the distance from the picture of the condition, so it is not reversed with the clip.
        return evaluate(x.flip(0), sigma, turned._replace(guidance=inputs.guidance)).flip(0)


@dataclass(frozen=True, eq=False)
class TakeTurns(Inbetween):
    """Step forward, add the noise again, and repeat the step from the end (ViBiDSampler, Yang et al. 2025).

    Two differences from ViBiD. It steps with CFG++; here the forward step is that of the solver and the backward one is
    Euler, both with the guidance of the run. And the backward step comes last, so it would undo what the start picture
    contributes to its neighbours; with the embedded model the clip jumped after its first frame. So the backward
    estimate fades in up to the middle of the clip, and is used alone from there. In a loop it fades in around the
    middle.
    """

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Keep the estimate from the start for the step from the end; in a loop also the other way round."""
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
            # The backward estimate of the level above stands in until this step is repeated from the end.
            return torch.lerp(forward, backward, self._shares(x))

        return turns

    def _shares(self, x: Tensor) -> Tensor:
        return super()._shares(x) if self.tied else (2 * position_of(x)).clamp(max=1)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
        """Repeat the step that led to `sigma`, backward."""
        if sigma <= self._level(run):
            return x
        forward, above = x, run.above(sigma)
        x = x + math.sqrt(above**2 - sigma**2) * run.fresh_noise()
        estimate = denoise(x, above, run.inputs._replace(backward=True), edited=True)
        turned = estimate + (x - estimate) * (sigma / above)
        # Frames that only use the view from the start keep their step.
        return torch.where(self._shares(x) > 0, turned, forward)


@dataclass(frozen=True, eq=False)
class Blend(Inbetween):
    """Blend both estimates of one state, with weights that fall from the own picture to the other.

    Time Reversal Fusion (TRF, Feng et al. 2024) without its repeats. Smooth, but the middle shows both motions where
    they disagree.

    ease: share of a smooth step in the weights, 0 to 1; 0 lets them fall evenly. Mixtures of unrelated pictures are
    softer than the pictures, so that even weights make the first and the last step up to twice as large as the others.
    """

    ease: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("the ease of a blend", self.ease, "use 0, or 0.75 between unrelated pictures")

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate both views."""

        def blended(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            forward = evaluate(x, sigma, inputs)
            if sigma <= self._level(run):
                return forward
            return torch.lerp(forward, self._from_end(evaluate, x, sigma, inputs), self._shares(x))

        return blended

    def _shares(self, x: Tensor) -> Tensor:
        shares = super()._shares(x)
        return (
            shares if self.tied or not self.ease else torch.lerp(shares, shares.square() * (3 - 2 * shares), self.ease)
        )


INBETWEEN_MODES: dict[str, type[Inbetween]] = {"take turns": TakeTurns, "blend": Blend}
"""Controls that reach an end picture, by the name of their mode."""


def inbetween_control(
    mode: str, end: Any, first: Tensor, last: Tensor, *, strength: float = 1.0, tied: bool = False, **settings: float
) -> Inbetween:
    """Return the control that leads a clip from its start picture to an end picture.

    mode: a key of INBETWEEN_MODES. settings: fields of its class alone, such as ease. The other arguments are those of
    `Inbetween`. Raises ValueError for unknown modes.
    """
    if mode not in INBETWEEN_MODES:
        raise ValueError(f"the mode {mode!r} is unknown; use one of {', '.join(INBETWEEN_MODES)}")
    return INBETWEEN_MODES[mode](end, lay_out(first), lay_out(last), strength, tied=tied, **settings)


def position_of(x: Tensor) -> Tensor:
    """Return the position of each frame in the clip, 0 to 1: [T, 1, 1, 1]."""
    return torch.linspace(0, 1, len(x)).to(x).reshape(-1, *[1] * (x.dim() - 1))


def _with_picture(condition: Any, end: Any) -> Any:
    """Return `condition` with the end picture; its motion numbers stay, because other controls may have set them."""
    return replace(condition, token=end.token, latent=end.latent) if hasattr(condition, "vector") else end


def _without_or_with_picture(other: Any, end: Any) -> Any:
    """Return the unconditional condition; parts that hold the start picture, usually none, get the end picture."""
    if other is None:
        return None
    if not hasattr(other, "vector"):
        return other
    parts = {"token": end.token, "latent": end.latent}
    return replace(other, **{name: part for name, part in parts.items() if bool(getattr(other, name).any())})
