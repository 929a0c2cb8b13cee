"""Controls that impose a rough clip, the signal, which the model then makes real.

Three modes, all with the base weights: start from the noised signal (`PartialRenoise`), hold certain regions longer
than others (`DualClock`), or replace the denoised estimate (`ReplaceEstimate`). Sigmas are meant for SVD at 1024x576
and scaled to the size of the clip and to the model (`Run.control_scale`). Strength 0 is off, 1 follows the signal, more
goes on to lower noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.vae import LATENT_SCALE
from ..pictures.reading import lay_out
from ..sampling.controls import Control, Run, Start
from ..sampling.guidance import Denoiser
from .refine import MOST_ROUNDS, agreement, refine_holes, refines_at
from .strength import check_strength, release_level

PIN_SIGMA = 1.0  # below it the first frame is only half held, so that its fine detail matches its neighbours
PIN_BELOW = 0.5
NEAR = 4.0  # times the release; below it, refinement lets go of cells that the model contradicts
CLOSE = 0.97  # skip levels of the schedule this close below a start sigma, so that no step is wasted


@dataclass(frozen=True, eq=False)
class Signal:
    """The clip to impose.

    latents: scaled, [T, 4, h, w]. valid: how certain each cell is, [T, 1, h, w] in 0..1.
    first: whether frame 0 is the start picture itself, so that it is held.
    """

    latents: Tensor
    valid: Tensor
    first: bool = True

    def __post_init__(self) -> None:
        if self.latents.ndim != 4 or self.valid.shape != (len(self.latents), 1, *self.latents.shape[2:]):
            raise ValueError(
                f"the signal has latents {list(self.latents.shape)} and valid cells {list(self.valid.shape)}; give "
                "[T, 4, h, w] and [T, 1, h, w]"
            )

    def on(self, run: Run) -> tuple[Tensor, Tensor]:
        """Return latents and valid cells on the device of the run; raises ValueError if the clip has another shape."""
        wanted, (frames, _, h, w) = run.noise.shape, self.latents.shape
        if (frames, h, w) != (wanted[0], *wanted[2:]):
            raise ValueError(
                f"the control was made for {frames} frames of {8 * w}x{8 * h} pixels, the clip has {wanted[0]} of "
                f"{8 * wanted[3]}x{8 * wanted[2]}; make both from the same latent"
            )
        return lay_out(self.latents.to(run.noise)), lay_out(self.valid.to(run.noise))


def encode_frames(
    encode: Callable[[Tensor], Tensor], frames: Tensor, on_frame: Callable[[int, int], None] | None = None
) -> Tensor:
    """Return the scaled latents [T, 4, h, w] of frames [T, 3, 8h, 8w] in -1..1, encoded one by one.

    encode: returns the unscaled latent of a picture, such as `SVDModel.encode_latent`. on_frame(done, frames) reports
    progress. A frame equal to the one before is not encoded again.
    """
    latents: list[Tensor] = []
    for number, frame in enumerate(frames.split(1)):
        still = number > 0 and torch.equal(frame, frames[number - 1 : number])
        latents.append(latents[-1] if still else encode(frame).float() * LATENT_SCALE)
        if on_frame is not None:
            on_frame(number + 1, len(frames))
    return torch.cat(latents)


@dataclass(frozen=True, eq=False)
class SignalControl(Control):
    """Base of the three modes: a strength, and frame 0 held at the latent of the start picture."""

    signal: Signal
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self.strength, "use 0.5 to 2")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def level(self, run: Run, sigma: float) -> float:
        """Return the noise level of this run for `sigma` of SVD at 1024x576, moved by the strength."""
        return release_level(run, sigma * run.control_scale, self.strength)

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold frame 0: fully while the layout forms, by half below PIN_SIGMA."""
        if not self.signal.first:
            return estimate
        weight = 1.0 if sigma > PIN_SIGMA * run.scale else PIN_BELOW
        latents, _ = self.signal.on(run)
        estimate = estimate.clone()
        estimate[0] = torch.lerp(estimate[0], latents[0], weight)
        return estimate

    def _start_at(self, run: Run, start: Start, sigma: float) -> Start:
        """Return the signal noised to `sigma` as the start; levels above it are skipped."""
        latents, _ = self.signal.on(run)
        sigma = min(sigma, start.sigmas[0])
        if sigma <= start.sigmas[-1]:
            raise ValueError(
                f"the control starts at sigma {sigma:.3g}, but the schedule ends at {start.sigmas[-1]:.3g}; lower the "
                "strength, or let the schedule end at 0"
            )
        return Start(latents + run.noise * sigma, [sigma, *levels_below(start.sigmas, sigma)])


@dataclass(frozen=True, eq=False)
class PartialRenoise(SignalControl):
    """Start from the noised signal (CamTrol, Hou et al. 2024; SDEdit, Meng et al. 2022). Skipped steps save time.

    sigma: noise level of the start. At 80 the clip hardly follows the signal, at 8 it is a rigid slide show.
    """

    sigma: float = 30.0

    def begin(self, run: Run, start: Start) -> Start:
        """Replace the start."""
        return self._start_at(run, start, self.level(run, self.sigma))


@dataclass(frozen=True, eq=False)
class DualClock(SignalControl):
    """Start from the noised signal and write it back after each step, longer where it is valid (Time-to-Move, 2025).

    sigma: releases valid cells; too low freezes cut-outs. sigma_weak: starts the clip and releases cells that are not
    valid; too high doubles objects. Cells with a value between 0 and 1 are released in between.
    """

    sigma: float = 31.0
    sigma_weak: float = 75.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma <= self.sigma_weak:
            raise ValueError(
                f"the dual clock needs 0 < sigma <= sigma_weak (got {self.sigma:g} and {self.sigma_weak:g}); use 31 "
                "and 75"
            )

    def begin(self, run: Run, start: Start) -> Start:
        """Replace the start, and move one level of the schedule to the sigma that releases valid cells.

        A schedule of few steps would otherwise release them far above that sigma.
        """
        x, levels = self._start_at(run, start, self.level(run, self.sigma_weak))
        strong = self.level(run, self.sigma)
        inner = range(1, len(levels) - 1)
        if inner and levels[-1] < strong < levels[0] * CLOSE:
            nearest = min(inner, key=lambda i: abs(math.log(levels[i] / strong)))
            levels[nearest] = strong
        return Start(x, levels)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Write the signal back, with its own noise, into cells that are not released yet."""
        latents, valid = self.signal.on(run)
        strong, weak = self.level(run, self.sigma), self.level(run, self.sigma_weak)
        release = weak * (strong / weak) ** valid  # [T, 1, h, w]
        # The margin releases cells at a level that equals their own up to rounding.
        return torch.where(sigma > release * 0.999, latents + run.noise * sigma, x)


@dataclass(frozen=True, eq=False)
class ReplaceEstimate(SignalControl):
    """Replace the denoised estimate by the signal where it is valid, from the first step down to `sigma`.

    After NVS-Solver (You et al. 2024) and ViewExtrapolator (Liu et al. 2024).

    keep: share of the valid cells to replace, those where model and signal agree best; below 1 leaves out wrong depths.
    repeats: evaluations of each guided step. Above 1 the step is noised again and evaluated without the signal, which
    hides seams and costs as many times more.
    last: weight of the last frame; weights fall evenly from 1 in the first.
    refine: rounds in which the model draws what is not valid again at a guided level (`refine.refine_holes`), 0 is off.
    Near the release, cells then count less the more the model disagrees with them.
    """

    sigma: float = 8.0
    keep: float = 1.0
    repeats: int = 1
    last: float = 1.0
    refine: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("keep", self.keep), ("last", self.last)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1 (got {value:g}); use 0.6 to 1")
        if not 1 <= self.repeats <= 10:
            raise ValueError(f"repeats must be 1 to 10 (got {self.repeats}); use 1 to 3")
        if not 0 <= self.refine <= MOST_ROUNDS:
            raise ValueError(f"refine must be 0 to {MOST_ROUNDS} rounds (got {self.refine}); use 2, or 0 for none")

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Replace the estimate of guided levels; with repeats, the last evaluation of a step is left free."""
        if self.repeats == 1 and sigma > self.level(run, self.sigma):
            estimate = self._replaced(run, sigma, estimate)
        return super().edit_estimate(run, x, sigma, estimate)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Evaluate a guided level several times before its step: first with the signal, then without."""
        if sigma <= self.level(run, self.sigma):
            return x
        for number in range(self.repeats - 1):
            estimate = denoise(x, sigma)
            estimate = self._replaced(run, sigma, estimate) if number == 0 else estimate
            x = super().edit_estimate(run, x, sigma, estimate) + sigma * run.fresh_noise()
        if self.refine and refines_at(run, sigma):
            latents, valid = self.signal.on(run)
            x = refine_holes(run, x, sigma, denoise, latents, valid > 0, self.refine)
        return x

    def _replaced(self, run: Run, sigma: float, estimate: Tensor) -> Tensor:
        latents, valid = self.signal.on(run)
        frames = len(estimate)
        if self.refine and sigma < NEAR * self.level(run, self.sigma):
            valid = valid * agreement(estimate - latents, valid)
        if self.keep < 1:
            valid = valid * _closest(estimate - latents, valid, self.keep)
        weight = torch.linspace(1, self.last, frames).to(valid).reshape(-1, 1, 1, 1)
        return torch.lerp(estimate, latents, valid * weight)


SIGNAL_MODES = {"partial re-noise": PartialRenoise, "dual clock": DualClock, "replace estimate": ReplaceEstimate}
"""Controls that impose a signal, by the name of their mode."""


def imposes_motion(controls: Sequence[Control]) -> bool:
    """Return whether one of `controls` imposes a signal, so that low motion buckets follow best."""
    return any(isinstance(control, SignalControl) and control.active for control in controls)


def levels_below(sigmas: Sequence[float], sigma: float) -> list[float]:
    """Return the levels to sample after a start at `sigma`: those clearly below it, at least the last."""
    return [level for level in sigmas if level < sigma * CLOSE] or list(sigmas[-1:])


def _closest(difference: Tensor, valid: Tensor, share: float) -> Tensor:
    """Return 1 where the difference is among the smallest `share` of valid cells of its frame, else 0: [T, 1, h, w]."""
    size = difference.abs().mean(1, keepdim=True)
    size = torch.where(valid > 0.5, size, torch.nan)
    limit = size.flatten(1).nanquantile(share, dim=1).reshape(-1, 1, 1, 1)
    return (size <= limit).to(valid)  # a comparison with NaN is false
