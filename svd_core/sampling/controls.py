"""The sampler's hook points: a control is a small object that `sample` asks at five places, in the order given.

A sixth, for decoded frames, is asked by whoever decodes.

Controls know sigmas, never step numbers, so that they mean the same with any schedule. Knows no model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .guidance import Guidance

REFERENCE_CELLS = 96.0  # sqrt(72 * 128), the latent grid of 1024x576


def resolution_scale(height: int, width: int) -> float:
    """Return the factor that brings a sigma meant for 1024x576 to a latent grid of height x width cells.

    Structure of k x k cells survives noise of about sigma k, and the same structure of a picture covers a number of
    cells that grows with the side of the grid.
    """
    return math.sqrt(height * width) / REFERENCE_CELLS


class Inputs(NamedTuple):
    """What an evaluation of the model is given besides the state; `unconditional` None follows from the condition.

    `backward` asks for the clip seen from its end. The control that sets it turns time round in its `wrap`; until there
    everything is in the order of the clip. `features` are what the model may take up of earlier evaluations
    (`reuse.Features`), in the order of the state; None for nothing.
    """

    condition: Any
    unconditional: Any | None
    guidance: Guidance
    backward: bool = False
    features: Any | None = None

    def features_of(self, index: Tensor) -> Any | None:
        """Return the features of the frames at `index` [N] of the state."""
        return None if self.features is None else self.features.of_frames(index)

    def turned(self) -> "Inputs":
        """Return the same for the clip with its frames in reverse: rows per frame turn with it, nothing is asked."""
        guidance = replace(self.guidance, scale=self.guidance.scale.flip(0))
        features = None if self.features is None else self.features.turned()
        return Inputs(_turned(self.condition), _turned(self.unconditional), guidance, features=features)


def _turned(condition: Any) -> Any:
    return condition.turned() if hasattr(condition, "turned") else condition


class Start(NamedTuple):
    """The state [T, 4, h, w] at the first of the `sigmas`, a decreasing list that ends the sampling."""

    x: Tensor
    sigmas: list[float]


Evaluate = Callable[[Tensor, float, Inputs], Tensor]


class Denoise(Protocol):
    """The guided and wrapped model, as controls may call it."""

    def __call__(self, x: Tensor, sigma: float, inputs: Inputs | None = None, *, edited: bool = False) -> Tensor:
        """Return the estimate of `x` at `sigma`.

        `inputs` take the place of the run's, before the controls edit them; `edited` applies all edits of estimates.
        """
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """What every hook is told of the sampling that it takes part in.

    `noise` [T, 4, h, w] is the standard normal start noise, `sigmas` the list that was asked for, before any control
    changed it, and `fresh_noise()` the next noise of the same shape, from the seed. `levels` is the list that is
    walked, known once all controls have begun.
    """

    noise: Tensor
    sigmas: tuple[float, ...]
    inputs: Inputs
    fresh_noise: Callable[[], Tensor]
    levels: tuple[float, ...] = ()

    def above(self, sigma: float) -> float:
        """The level that the step to `sigma`, one of the levels, came from."""
        return self.levels[self.levels.index(sigma) - 1]

    def below(self, sigma: float) -> float:
        """The highest level under `sigma`, where its step leads; 0 where there is none."""
        return max((level for level in self.levels if level < sigma), default=0.0)

    @property
    def scale(self) -> float:
        """What sigmas given for 1024x576 are multiplied by in this clip (`resolution_scale`)."""
        return resolution_scale(*self.noise.shape[-2:])


class Control:
    """One way to steer the sampling; each method is a hook that changes nothing unless a subclass says what.

    Controls hold no state of a run: one object may serve many clips. What must be remembered between evaluations lives
    in the function that `wrap` returns.
    """

    innermost = False
    """Whether `wrap` gets the model itself, under the wraps of all controls that do not say so."""

    outermost = False
    """Whether `wrap` gets the model with the wraps of all controls that do not say so."""

    features_depth = 0
    """Pairs of blocks outside the place where features are kept from step to step; 0 where none are."""

    closed = False
    """Whether the last frame of the clip is followed by its first."""

    edits_frames = False
    """Whether `edit_frames` does anything, so that the control must be kept until the clip is decoded."""

    @property
    def active(self) -> bool:
        """Whether to take part at all; a control without strength is left out, so that its clip is exactly that
        without it.
        """
        return True

    def frames_at_once(self, frames: int) -> int:
        """How many frames of a clip of `frames` the model sees at once: what its memory is planned for."""
        return frames

    def edit_noise(self, noise: Tensor, seed: int) -> Tensor:
        """Return the standard normal start noise [T, 4, h, w], changed; before anything else is asked."""
        return noise

    def begin(self, run: Run, start: Start) -> Start:
        """Return the state and sigma list to start from."""
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Return condition, unconditional condition and guidance, each for all frames or per frame, at `sigma`."""
        return inputs

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Return what takes the place of `evaluate(x, sigma, inputs)`, the guided model; called once per clip, when
        all controls have begun.
        """
        return evaluate

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Return the denoised estimate [T, 4, h, w] of the state `x` at `sigma`, changed."""
        return estimate

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
        """Return the state [T, 4, h, w] that a step led to, at `sigma`, changed; at the end sigma is 0.

        `denoise(x, sigma)` is the guided and wrapped model, by itself without the edits of estimates.
        """
        return x

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return the decoded frames [T, H, W, 3] in 0..1, changed; the sampler itself never gets there."""
        return frames


def active_controls(controls: Sequence[Control]) -> list[Control]:
    """Return those that take part; ValueError for what is no control."""
    for number, control in enumerate(controls, 1):
        if not isinstance(control, Control):
            raise ValueError(
                f"control {number} is a {type(control).__name__}; give objects made from svd_core's Control"
            )
    return [control for control in controls if control.active]


def finish_frames(frames: Tensor, controls: Sequence[Control]) -> Tensor:
    """Return the decoded frames [T, H, W, 3] in 0..1 of a clip with what its active controls do to them."""
    for control in active_controls(controls):
        frames = control.edit_frames(frames)
    return frames


class Hooks:
    """All active controls of one run as the sampling loop needs them. Without controls every method passes through."""

    def __init__(self, controls: Sequence[Control], run: Run, evaluate: Evaluate) -> None:
        self.run = run
        self.controls = active_controls(controls)
        self._evaluate = evaluate

    def begin(self, start: Start) -> Start:
        """Let every control change the start, then wrap the model, once the levels are known."""
        for control in self.controls:
            start = control.begin(self.run, start)
        self.run = replace(self.run, levels=tuple(start.sigmas))
        for control in sorted(self.controls, key=lambda control: control.outermost - control.innermost):
            self._evaluate = control.wrap(self.run, self._evaluate)
        return start

    def denoise(self, x: Tensor, sigma: float, inputs: Inputs | None = None, *, edited: bool = False) -> Tensor:
        """The estimate, without its edits unless `edited`; see Denoise."""
        inputs = self.run.inputs if inputs is None else inputs
        for control in self.controls:
            inputs = control.edit_inputs(self.run, sigma, inputs)
        estimate = self._evaluate(x, sigma, inputs)
        for control in self.controls if edited else ():
            estimate = control.edit_estimate(self.run, x, sigma, estimate)
        return estimate

    def denoise_and_edit(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate that solvers work with."""
        return self.denoise(x, sigma, edited=True)

    def after_step(self, x: Tensor, sigma: float) -> Tensor:
        """Let every control change the state after a step to `sigma`."""
        for control in self.controls:
            x = control.edit_state(self.run, x, sigma, self.denoise)
        return x
