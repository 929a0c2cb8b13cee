"""Controls that impose a rough clip, the signal, and leave it to the model to make it real.

Three ways, all with the base weights: start from the noised signal (`PartialRenoise`), hold sure regions longer than
the others (`DualClock`), or replace the denoised estimate (`ReplaceEstimate`). Sigmas are meant for 1024x576 and
scaled to the clip's size. Strength moves them: 0 is off, 1 the sigmas themselves, more goes on to lower noise.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.controls import Control, Run, Start
from ..sampling.guidance import Denoiser

PIN_SIGMA = 1.0  # below it the first frame is only half held, so that its fine detail meets that of its neighbours
PIN_BELOW = 0.5
CLOSE = 0.97  # a schedule's sigma this close below a starting sigma is left out, so that no step is wasted


@dataclass(frozen=True, eq=False)
class Signal:
    """The clip to impose: scaled latents [T, 4, h, w], and how sure each cell is, [T, 1, h, w] in 0..1.

    Frame 0 is the start picture itself, or `first` False says that it is not.
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
        """Return latents and valid cells on the run's device; ValueError where they are not for its clip."""
        wanted, (frames, _, h, w) = run.noise.shape, self.latents.shape
        if (frames, h, w) != (wanted[0], *wanted[2:]):
            raise ValueError(
                f"the control is for {frames} frames of {8 * w}x{8 * h} pixels, the clip has {wanted[0]} of "
                f"{8 * wanted[3]}x{8 * wanted[2]}; make both from the same latent"
            )
        return self.latents.to(run.noise), self.valid.to(run.noise)


@dataclass(frozen=True, eq=False)
class SignalControl(Control):
    """What the three ways share: strength, and the first frame held at the start picture's latents."""

    signal: Signal
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise ValueError(f"the control's strength is {self.strength:g}, but it must be 0 or above; use 0.5 to 2")

    @property
    def active(self) -> bool:
        """Whether there is any strength."""
        return self.strength > 0

    def level(self, run: Run, sigma: float) -> float:
        """The sigma in this run that stands for `sigma` at 1024x576.

        Strength goes in even steps of the logarithm from the run's first sigma (0) over the scaled sigma (1) further
        down.
        """
        first = run.sigmas[0]
        return first * (min(sigma * run.scale, first) / first) ** self.strength

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold frame 0: wholly while its layout forms, by half below."""
        if not self.signal.first:
            return estimate
        weight = 1.0 if sigma > PIN_SIGMA * run.scale else PIN_BELOW
        latents, _ = self.signal.on(run)
        estimate = estimate.clone()
        estimate[0] = torch.lerp(estimate[0], latents[0], weight)
        return estimate

    def _start_at(self, run: Run, start: Start, sigma: float) -> Start:
        """Begin with the noised signal at `sigma`; levels above it are skipped."""
        latents, _ = self.signal.on(run)
        sigma = min(sigma, start.sigmas[0])
        if sigma <= start.sigmas[-1]:
            raise ValueError(
                f"the control starts at sigma {sigma:.3g}, but the schedule ends at {start.sigmas[-1]:.3g}; lower the "
                "strength, or let the schedule end at 0"
            )
        rest = [level for level in start.sigmas if level < sigma * CLOSE] or start.sigmas[-1:]
        return Start(latents + run.noise * sigma, [sigma, *rest])


@dataclass(frozen=True, eq=False)
class PartialRenoise(SignalControl):
    """Start from the noised signal (CamTrol, Hou et al. 2024; SDEdit, Meng et al. 2022). Skipped steps save time.

    `sigma`: 80 hardly follows, 8 is a rigid slide show.
    """

    sigma: float = 30.0

    def begin(self, run: Run, start: Start) -> Start:
        """Replace the start."""
        return self._start_at(run, start, self.level(run, self.sigma))


@dataclass(frozen=True, eq=False)
class DualClock(SignalControl):
    """Start from the noised signal and write it back after each step, sure cells for longer (Time-to-Move, 2025).

    `sigma_weak` starts, and releases cells that are not valid; `sigma` releases valid ones, those in between in
    between. A sigma too low freezes cut-outs, a sigma_weak too high doubles objects.
    """

    sigma: float = 31.0
    sigma_weak: float = 75.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma <= self.sigma_weak:
            raise ValueError(
                f"the dual clock releases at sigma {self.sigma:g} and starts at {self.sigma_weak:g}, but it must not "
                "start below; use 31 and 75"
            )

    def begin(self, run: Run, start: Start) -> Start:
        """Replace the start, and let the schedule meet the sigma at which valid cells are released.

        Few steps would otherwise release them far above it.
        """
        x, levels = self._start_at(run, start, self.level(run, self.sigma_weak))
        strong = self.level(run, self.sigma)
        inner = range(1, len(levels) - 1)
        if inner and levels[-1] < strong < levels[0] * CLOSE:
            nearest = min(inner, key=lambda i: abs(math.log(levels[i] / strong)))
            levels[nearest] = strong
        return Start(x, levels)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Write the signal back, with its own noise, where it has not been released yet."""
        latents, valid = self.signal.on(run)
        strong, weak = self.level(run, self.sigma), self.level(run, self.sigma_weak)
        release = weak * (strong / weak) ** valid  # [T, 1, h, w]
        # A little below, for levels that are meant to meet it.
        return torch.where(sigma > release * 0.999, latents + run.noise * sigma, x)


@dataclass(frozen=True, eq=False)
class ReplaceEstimate(SignalControl):
    """Replace the denoised estimate by the signal where it is valid, from the first step to `sigma` (NVS-Solver, You
    et al. 2024; ViewExtrapolator, Liu et al. 2024).

    `keep`: share of the valid cells, those where model and signal agree best; below 1 it leaves out wrong depths.
    `repeats`: evaluations per guided step; above 1, the step is noised again and evaluated freely, which hides seams
    and takes as many times longer. `last`: weight of the last frame, reached evenly from 1 at the first.
    """

    sigma: float = 8.0
    keep: float = 1.0
    repeats: int = 1
    last: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("keep", self.keep), ("last", self.last)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value:g}, but it must be above 0 and at most 1; use 0.6 to 1")
        if not 1 <= self.repeats <= 10:
            raise ValueError(f"the control repeats steps {self.repeats} times, but 1 to 10 make sense; use 1 to 3")

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Replace what is guided; the last of several evaluations of a step is free."""
        if self.repeats == 1 and sigma > self.level(run, self.sigma):
            estimate = self._replaced(run, estimate)
        return super().edit_estimate(run, x, sigma, estimate)

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Evaluate a guided level several times before its step: first with the signal, then freely."""
        if sigma <= self.level(run, self.sigma):
            return x
        for number in range(self.repeats - 1):
            estimate = denoise(x, sigma)
            estimate = self._replaced(run, estimate) if number == 0 else estimate
            x = super().edit_estimate(run, x, sigma, estimate) + sigma * run.fresh_noise()
        return x

    def _replaced(self, run: Run, estimate: Tensor) -> Tensor:
        latents, valid = self.signal.on(run)
        frames = len(estimate)
        if self.keep < 1:
            valid = valid * _closest(estimate - latents, valid, self.keep)
        weight = torch.linspace(1, self.last, frames).to(valid).reshape(-1, 1, 1, 1)
        return torch.lerp(estimate, latents, valid * weight)


def _closest(difference: Tensor, valid: Tensor, share: float) -> Tensor:
    """Where [T, 1, h, w] the difference is among the smallest `share` of the valid cells of its frame."""
    size = difference.abs().mean(1, keepdim=True)
    size = torch.where(valid > 0.5, size, torch.nan)
    limit = size.flatten(1).nanquantile(share, dim=1).reshape(-1, 1, 1, 1)
    return (size <= limit).to(valid)  # NaN compares as false


MODES = {"partial re-noise": PartialRenoise, "dual clock": DualClock, "replace estimate": ReplaceEstimate}
"""Ways to impose a signal, by name."""
