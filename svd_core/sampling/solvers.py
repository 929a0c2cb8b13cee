"""Solvers of the sampling ODE dx/dsigma = (x - D(x; sigma)) / sigma. Each makes one step; the loop is in sampler.py.

Solvers call only `denoiser(x, sigma)`. They may keep values of earlier steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from .guidance import Denoiser


class Step(NamedTuple):
    """The progress of sampling: `on_step` gets one after every step, and may raise to stop the sampling.

    `index` counts from 0 to `steps` - 1; `denoised` [T, 4, h, w] is the clip estimated at `sigma`, in scaled latents,
    for previews; `x` is the noisy state after the step.
    """

    index: int
    steps: int
    sigma: float
    denoised: Tensor
    x: Tensor


@dataclass(frozen=True)
class Churn:
    """Noise added back before each step (Karras et al. 2022, algorithm 2; spec section 8.4); 0 is deterministic."""

    amount: float = 0.0
    sigma_low: float = 0.0
    sigma_high: float = math.inf
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise ValueError(f"churn must be finite and 0 or above (got {self.amount:g}); use 0 for none")


class Solver(Protocol):
    """A step from `sigma` to `sigma_next`: returns the new state and the denoised estimate at `sigma`."""

    def step(self, denoiser: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]: ...


class Setting(NamedTuple):
    """What a solver may need besides the denoiser: the number of steps, churn, and a source of fresh noise."""

    steps: int
    churn: Churn
    noise: Callable[[], Tensor]


class Euler:
    """Euler's method with optional churn (Karras et al. 2022, algorithm 2 without its correction; spec 8.4)."""

    second_order = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def step(self, denoiser: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
        """Return `x` at `sigma_next` and the denoised estimate at `sigma`."""
        x, sigma = self._churned(x, sigma)
        denoised = denoiser(x, sigma)
        if sigma_next == 0:
            return denoised, denoised
        slope = (x - denoised) / sigma
        end = x + slope * (sigma_next - sigma)
        if self.second_order:
            slope_end = (end - denoiser(end, sigma_next)) / sigma_next
            end = x + (slope + slope_end) * ((sigma_next - sigma) / 2)
        return end, denoised

    def _churned(self, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        churn = self.setting.churn
        if churn.amount == 0 or not churn.sigma_low <= sigma <= churn.sigma_high:
            return x, sigma
        # The bound keeps the added noise below the present noise (Karras et al. 2022, section 4).
        higher = sigma * (1 + min(churn.amount / self.setting.steps, math.sqrt(2) - 1))
        return x + self.setting.noise() * (churn.noise_scale * math.sqrt(higher**2 - sigma**2)), higher


class Heun(Euler):
    """Heun's second-order method with optional churn (Karras et al. 2022, algorithm 2): 2 n - 1 evaluations."""

    second_order = True


class DPMSolverPP2M:
    """DPM-Solver++(2M): second order with one evaluation per step, no churn (Lu et al. 2022, algorithm 2)."""

    def __init__(self, setting: Setting) -> None:
        self._last: tuple[Tensor, float] | None = None  # previous estimate and its step in -ln(sigma)

    def step(self, denoiser: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
        """Return `x` at `sigma_next` and the denoised estimate at `sigma`."""
        denoised = denoiser(x, sigma)
        if sigma_next == 0:
            return denoised, denoised
        width = math.log(sigma / sigma_next)
        ahead = denoised
        if self._last is not None:
            last, last_width = self._last
            ahead = denoised + (denoised - last) * (width / (2 * last_width))
        self._last = (denoised, width)
        ratio = sigma_next / sigma
        return ratio * x + (1 - ratio) * ahead, denoised


class LCM:
    """Consistency sampling (Luo et al. 2023; spec 11.2): take the estimate, then add fresh noise of the next level."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def step(self, denoiser: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
        """Return `x` at `sigma_next` and the denoised estimate at `sigma`."""
        denoised = denoiser(x, sigma)
        if sigma_next == 0:
            return denoised, denoised
        return denoised + sigma_next * self.setting.noise(), denoised


SOLVERS: dict[str, Callable[[Setting], Solver]] = {"euler": Euler, "heun": Heun, "dpmpp_2m": DPMSolverPP2M, "lcm": LCM}


def make_solver(name: str, setting: Setting) -> Solver:
    """Return a new solver named `name` (a key of SOLVERS); ValueError for unknown names and for unused churn."""
    if name not in SOLVERS:
        raise ValueError(f"the solver {name!r} is unknown; use one of {', '.join(SOLVERS)}")
    if setting.churn.amount > 0 and name not in ("euler", "heun"):
        raise ValueError(
            f"the solver {name} takes no churn (got {setting.churn.amount:g}); use euler or heun, or churn 0"
        )
    return SOLVERS[name](setting)
