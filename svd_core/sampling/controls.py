"""The sampler's hook points: a control is a small object that `sample` asks at five places, in the order given.

Controls know sigmas, never step numbers, so that they mean the same with any schedule. Knows no model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .guidance import Denoiser, Guidance

REFERENCE_CELLS = 96.0  # sqrt(72 * 128), the latent grid of 1024x576


def resolution_scale(height: int, width: int) -> float:
    """Return the factor that brings a sigma meant for 1024x576 to a latent grid of height x width cells.

    Structure of k x k cells survives noise of about sigma k, and the same structure of a picture covers a number of
    cells that grows with the side of the grid.
    """
    return math.sqrt(height * width) / REFERENCE_CELLS


class Inputs(NamedTuple):
    """What an evaluation of the model is given besides the state; `unconditional` None follows from the condition."""

    condition: Any
    unconditional: Any | None
    guidance: Guidance


class Start(NamedTuple):
    """The state [T, 4, h, w] at the first of the `sigmas`, a decreasing list that ends the sampling."""

    x: Tensor
    sigmas: list[float]


Evaluate = Callable[[Tensor, float, Inputs], Tensor]


@dataclass(frozen=True, eq=False)
class Run:
    """What every hook is told of the sampling that it takes part in.

    `noise` [T, 4, h, w] is the standard normal start noise, `sigmas` the list that was asked for, before any control
    changed it, and `fresh_noise()` the next noise of the same shape, from the seed.
    """

    noise: Tensor
    sigmas: tuple[float, ...]
    inputs: Inputs
    fresh_noise: Callable[[], Tensor]

    @property
    def scale(self) -> float:
        """What sigmas given for 1024x576 are multiplied by in this clip (`resolution_scale`)."""
        return resolution_scale(*self.noise.shape[-2:])


class Control:
    """One way to steer the sampling; each method is a hook that changes nothing unless a subclass says what.

    Controls hold no state of a run: one object may serve many clips. What must be remembered between evaluations lives
    in the function that `wrap` returns.
    """

    @property
    def active(self) -> bool:
        """Whether to take part at all; a control without strength is left out, so that its clip is exactly that
        without it.
        """
        return True

    def begin(self, run: Run, start: Start) -> Start:
        """Return the state and sigma list to start from."""
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Return condition, unconditional condition and guidance, each for all frames or per frame, at `sigma`."""
        return inputs

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Return what takes the place of `evaluate(x, sigma, inputs)`, the guided model; called once per clip."""
        return evaluate

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Return the denoised estimate [T, 4, h, w] of the state `x` at `sigma`, changed."""
        return estimate

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Return the state [T, 4, h, w] that a step led to, at `sigma`, changed; at the end sigma is 0.

        `denoise(x, sigma)` is the guided and wrapped model, without the edits of estimates.
        """
        return x


class Hooks:
    """All active controls of one run as the sampling loop needs them. Without controls every method passes through."""

    def __init__(self, controls: Sequence[Control], run: Run, evaluate: Evaluate) -> None:
        for number, control in enumerate(controls, 1):
            if not isinstance(control, Control):
                raise ValueError(
                    f"control {number} is a {type(control).__name__}; give objects made from svd_core's Control"
                )
        self.run = run
        self.controls = [control for control in controls if control.active]
        for control in self.controls:
            evaluate = control.wrap(run, evaluate)
        self._evaluate = evaluate

    def begin(self, start: Start) -> Start:
        """Let every control change the start."""
        for control in self.controls:
            start = control.begin(self.run, start)
        return start

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate without its edits."""
        inputs = self.run.inputs
        for control in self.controls:
            inputs = control.edit_inputs(self.run, sigma, inputs)
        return self._evaluate(x, sigma, inputs)

    def denoise_and_edit(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate that solvers work with."""
        estimate = self.denoise(x, sigma)
        for control in self.controls:
            estimate = control.edit_estimate(self.run, x, sigma, estimate)
        return estimate

    def after_step(self, x: Tensor, sigma: float) -> Tensor:
        """Let every control change the state after a step to `sigma`."""
        for control in self.controls:
            x = control.edit_state(self.run, x, sigma, self.denoise)
        return x
