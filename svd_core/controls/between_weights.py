"""In-betweens with fine-tuned backward motion: Generative Inbetweening (Wang et al. 2024)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..condition import Adapter, Condition, PassInputs
from ..networks.backward_motion import BackwardMotion, KeepMaps, Maps, TurnedMaps
from ..sampling.controls import Denoise, Evaluate, Inputs, Run
from .adapters import attached
from .between import Inbetween, position_of

REPEATED = 0.5  # share of the steps that repeats belong to
PUBLISHED_REPEATS = 5
MOST_REPEATS = 20


@dataclass(frozen=True)
class LoadedBackwardMotion:
    """Backward motion ready to run, and the name of its file for messages."""

    network: BackwardMotion
    name: str


@dataclass(frozen=True, eq=False)
class BackwardAdapter(Adapter):
    """Keeps the temporal attention of a pass over `frames` frames, or with `backward` runs a pass with it.

    maps: the attention of the conditional pass; `other` that of the unconditional pass.
    """

    network: BackwardMotion
    frames: int
    maps: Maps = field(repr=False)
    other: Maps = field(repr=False)
    backward: bool = False

    @property
    def rows(self) -> int:
        """1: nothing here has rows."""
        return 1

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "BackwardAdapter":
        """Return itself."""
        return self

    def unconditional(self) -> "BackwardAdapter":
        """Return the adapter of the unconditional pass, which has attention of its own."""
        return replace(self, maps=self.other, other=self.maps)

    def hooks(self, inputs: PassInputs) -> KeepMaps | TurnedMaps:
        """Return the hooks of one pass; ValueError where the clip runs in windows or with cached features."""
        if len(inputs.x) != self.frames:
            raise ValueError(
                f"a fine-tuned in-between cannot run in windows (got {len(inputs.x)} of {self.frames} frames); make "
                "the clip no longer than the model's own, or use another mode"
            )
        if inputs.depth is not None:
            raise ValueError("a fine-tuned in-between cannot reuse features; switch reuse off, or use another mode")
        return TurnedMaps(self.network, self.maps) if self.backward else KeepMaps(self.maps)


@dataclass(frozen=True, eq=False)
class FineTunedBetween(Inbetween):
    """Average the view from the start and the fine-tuned view from the end, which share their temporal attention.

    weights: the backward motion. repeats: how often each step of the first half is repeated with fresh noise; the
    published clips have PUBLISHED_REPEATS, which takes 3.5 times as long as none. ramp: fade from the first view to the
    second over the frames, each with its own guidance, instead of averaging both with the mean of their guidance.
    """

    weights: LoadedBackwardMotion | None = None
    repeats: int = 0
    ramp: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            raise ValueError("the mode fine-tuned needs backward motion weights; load them, or use another mode")
        if not 0 <= self.repeats <= MOST_REPEATS:
            raise ValueError(
                f"repeats must be 0 to {MOST_REPEATS} (got {self.repeats}); use 0, or {PUBLISHED_REPEATS} as published"
            )

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate both views, the second with the attention of the first."""

        def both(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            if not self.ramp:
                scale = inputs.guidance.scale
                inputs = inputs._replace(guidance=replace(inputs.guidance, scale=(scale + scale.flip(0)) / 2))
            keeping = BackwardAdapter(self.weights.network, len(x), {}, {})
            forward = evaluate(x, sigma, _adapted(inputs, keeping))
            turning = replace(keeping, backward=True)
            backward = self._from_end(evaluate, x, sigma, _adapted(inputs, turning))
            share = position_of(x) if self.ramp else 0.5
            return forward + (backward - forward) * share

        return both

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
        """Repeat the step that led to `sigma`, with fresh noise, in the first half of the steps."""
        steps = sum(level > 0 for level in run.levels)
        above = run.above(sigma)
        if run.levels.index(above) >= int(steps * REPEATED):
            return x
        for _ in range(self.repeats):
            x = x + math.sqrt(above**2 - sigma**2) * run.fresh_noise()
            estimate = denoise(x, above, edited=True)
            x = estimate + (x - estimate) * (sigma / above)
        return x


def _adapted(inputs: Inputs, adapter: BackwardAdapter) -> Inputs:
    """Return inputs with the adapter in both conditions."""
    without = inputs.unconditional or _condition(inputs.condition).unconditional()
    return inputs._replace(
        condition=attached(_condition(inputs.condition), adapter),
        unconditional=attached(without, adapter.unconditional()),
    )


def _condition(condition: Any) -> Condition:
    if not isinstance(condition, Condition):
        raise ValueError(f"the mode fine-tuned needs a Condition (got a {type(condition).__name__})")
    return condition
