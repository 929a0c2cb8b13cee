"""The hooks of sampling: a control is a small object that `sample` calls at five places, in the order given.

A sixth hook edits decoded frames; `finish_frames` calls it.

Controls work with sigmas, never with step numbers, so that they mean the same with any schedule.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .guidance import Guidance

REFERENCE_CELLS = 96.0  # sqrt(72 * 128), the latent grid of 1024x576


def resolution_scale(height: int, width: int) -> float:
    """Return the factor that scales a sigma meant for 1024x576 to a latent grid of height x width cells.

    Structure of k x k cells survives noise of about sigma k, and the number of cells that the same structure of a
    picture covers grows with the side of the grid.
    """
    return math.sqrt(height * width) / REFERENCE_CELLS


class Inputs(NamedTuple):
    """The inputs of an evaluation besides the state; an `unconditional` of None is made from the condition.

    `backward` evaluates the clip from its end. The control that sets it reverses time in its `wrap`; until then all
    inputs are in clip order. `features` are cached features of earlier evaluations (`reuse.Features`), in the order of
    the state, or None.
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
        """Return these inputs with rows per frame in reverse order, without the `backward` flag."""
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

        `inputs` replace the run's own before the controls edit them; `edited` applies all edits of estimates.
        """
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """The sampling run that every hook gets.

    noise: standard normal start noise [T, 4, h, w].
    sigmas: the requested list, before any control changed it.
    fresh_noise: returns the next noise of the same shape, from the seed.
    levels: the list that is sampled, empty until `begin` of all controls has run.
    control_scale: factor of the model on the noise levels that release a signal (`SVDConfig.control_scale`).
    """

    noise: Tensor
    sigmas: tuple[float, ...]
    inputs: Inputs
    fresh_noise: Callable[[], Tensor]
    levels: tuple[float, ...] = ()
    control_scale: float = 1.0

    def above(self, sigma: float) -> float:
        """Return the level before `sigma`, which is one of the levels."""
        return self.levels[self.levels.index(sigma) - 1]

    def below(self, sigma: float) -> float:
        """Return the highest level below `sigma`; 0 if there is none."""
        return max((level for level in self.levels if level < sigma), default=0.0)

    @property
    def scale(self) -> float:
        """The factor for sigmas given for 1024x576 (`resolution_scale`)."""
        return resolution_scale(*self.noise.shape[-2:])


class Control:
    """Base class of everything that steers sampling; each method is a hook that changes nothing by default.

    Controls hold no state of a run, so one object may serve many clips. State between evaluations belongs into the
    function that `wrap` returns.
    """

    innermost = False
    """Whether `wrap` gets the model itself, inside the wraps of all other controls."""

    outermost = False
    """Whether `wrap` gets the model with the wraps of all other controls applied."""

    closed = False
    """Whether the clip is a loop: its last frame is followed by its first."""

    edits_frames = False
    """Whether `edit_frames` does anything, so that the control is needed until the clip is decoded."""

    @property
    def active(self) -> bool:
        """Whether the control does anything; one without strength is skipped, so that the clip is exactly the same."""
        return True

    def edit_noise(self, noise: Tensor, seed: int) -> Tensor:
        """Return the standard normal start noise [T, 4, h, w], changed. This is the first hook of a run."""
        return noise

    def begin(self, run: Run, start: Start) -> Start:
        """Return the state and sigma list to start from."""
        return start

    def edit_inputs(self, run: Run, sigma: float, inputs: Inputs) -> Inputs:
        """Return condition, unconditional condition and guidance at `sigma`, each for all frames or per frame."""
        return inputs

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Return a replacement of `evaluate(x, sigma, inputs)`, the guided model; once per clip, after `begin`."""
        return evaluate

    def edit_start(self, run: Run, x: Tensor, denoise: Denoise) -> Tensor:
        """Return the state at the first level, changed; once per clip, after `wrap`, so that the model can be used."""
        return x

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Return the denoised estimate [T, 4, h, w] of the state `x` at `sigma`, changed."""
        return estimate

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
        """Return the state [T, 4, h, w] after a step to `sigma`, changed; at the end sigma is 0.

        `denoise(x, sigma)` is the guided and wrapped model, by default without the edits of estimates.
        """
        return x

    def edit_frames(self, frames: Tensor) -> Tensor:
        """Return the decoded frames [T, H, W, 3] in 0..1, changed; called after decoding, not by the sampler."""
        return frames


def active_controls(controls: Sequence[Control]) -> list[Control]:
    """Return the active ones of `controls`; ValueError for objects that are not controls."""
    for number, control in enumerate(controls, 1):
        if not isinstance(control, Control):
            raise ValueError(
                f"control {number} is a {type(control).__name__}; use objects of svd_core.sampling.controls.Control"
            )
    return [control for control in controls if control.active]


def finish_frames(frames: Tensor, controls: Sequence[Control]) -> Tensor:
    """Return the decoded frames [T, H, W, 3] in 0..1 of a clip, edited by its active controls."""
    for control in active_controls(controls):
        frames = control.edit_frames(frames)
    return frames


class Hooks:
    """All active controls of one run, as the sampling loop calls them."""

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
        for control in self.controls:
            start = start._replace(x=control.edit_start(self.run, start.x, self.denoise))
        return start

    def denoise(self, x: Tensor, sigma: float, inputs: Inputs | None = None, *, edited: bool = False) -> Tensor:
        """Return the estimate, with the edits of estimates if `edited`; see Denoise."""
        inputs = self.run.inputs if inputs is None else inputs
        for control in self.controls:
            inputs = control.edit_inputs(self.run, sigma, inputs)
        estimate = self._evaluate(x, sigma, inputs)
        for control in self.controls if edited else ():
            estimate = control.edit_estimate(self.run, x, sigma, estimate)
        return estimate

    def after_step(self, x: Tensor, sigma: float) -> Tensor:
        """Let every control change the state after a step to `sigma`."""
        for control in self.controls:
            x = control.edit_state(self.run, x, sigma, self.denoise)
        return x
