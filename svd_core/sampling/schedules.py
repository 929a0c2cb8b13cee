"""Sigma lists: the noise levels that a sampler visits, from high to 0 (spec sections 8.2 and 11.2)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .limits import MAX_STEPS

# The range SVD was trained and is sampled with; generic samplers assume 14.6 or 120 and give a wrong first step.
SIGMA_MIN = 0.002
SIGMA_MAX = 700.0
RHO = 7.0

# Optimised for SVD and 10 steps: Sabour et al. 2024, "Align Your Steps".
ALIGN_YOUR_STEPS = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)

# AnimateLCM distilled SVD on this number of Karras points; a sampler may only visit those.
LCM_POINTS = 40


def karras_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO) -> Tensor:
    """Return the EDM schedule [steps + 1], float32, decreasing to 0 (Karras et al. 2022, eq. 5; spec section 8.2).

    `steps` counts network evaluations of a first-order solver. A single step goes from `sigma_max` to 0.
    """
    _check_range(steps, sigma_min, sigma_max)
    if not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho must be finite and above 0 (got {rho:g}); use 7 for SVD")
    return _tensor(_karras(steps, sigma_min, sigma_max, rho))


def exponential_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Return `steps` values evenly spaced in log sigma, then 0: [steps + 1], float32."""
    _check_range(steps, sigma_min, sigma_max)
    ratio = math.log(sigma_min / sigma_max) / max(steps - 1, 1)
    return _tensor([sigma_max * math.exp(i * ratio) for i in range(steps)])


def align_your_steps_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Return the schedule optimised for SVD at 10 steps [steps + 1], float32 (Sabour et al. 2024; spec section 8.2).

    Other counts interpolate the 11 published nodes linearly in log sigma, then set the last node to 0. The table spans
    0.002 to 700; another range stretches it linearly in log sigma, so that the first node is `sigma_max`.
    """
    _check_range(steps, sigma_min, sigma_max)
    logs = [math.log(s) for s in ALIGN_YOUR_STEPS]
    low, high = math.log(sigma_min), math.log(sigma_max)
    stretch = (high - low) / (logs[0] - logs[-1])
    sigmas = []
    for i in range(steps):
        position = i * (len(logs) - 1) / steps
        left = int(position)
        log = logs[left] + (position - left) * (logs[left + 1] - logs[left])
        sigmas.append(math.exp(high + (log - logs[0]) * stretch))
    return _tensor(sigmas)


def lcm_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Return the consistency schedule of AnimateLCM [steps + 1], float32, ending at 0 (Wang et al. 2024; spec 11.2).

    It takes every (40 // steps)-th of the 40 Karras points the model was distilled on, so `steps` is at most 40.
    """
    _check_range(steps, sigma_min, sigma_max)
    if steps > LCM_POINTS:
        raise ValueError(f"the lcm schedule takes 1 to {LCM_POINTS} steps (got {steps}); use 4 to 8")
    return _tensor(_karras(LCM_POINTS, sigma_min, sigma_max, RHO)[:: LCM_POINTS // steps][:steps])


def custom_sigmas(values: Sequence[float] | Tensor) -> Tensor:
    """Return `values` as a sigma list, float32 on the CPU (float64 stays); ValueError as in `check_sigmas`."""
    exact = isinstance(values, Tensor) and values.dtype == torch.float64
    sigmas = torch.as_tensor(values, dtype=torch.float64 if exact else torch.float32, device="cpu")
    check_sigmas(sigmas)
    return sigmas


def check_sigmas(sigmas: Tensor) -> None:
    """Raise ValueError unless `sigmas` is a list of two or more finite, decreasing values of 0 or above.

    A list that does not end at 0 gives a noisy latent, for a second sampler to finish.
    """
    if sigmas.dim() != 1 or sigmas.numel() < 2:
        raise ValueError(
            f"a sigma list needs two or more values in one row, one step at least (got shape {list(sigmas.shape)}); "
            "add the last value, usually 0"
        )
    values = sigmas.tolist()
    for i, value in enumerate(values):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"sigma {i} must be finite and 0 or above (got {value:g}); correct that value")
        if i and value >= values[i - 1]:
            raise ValueError(
                f"a sigma list must decrease at every step (sigma {i} is {value:g} after {values[i - 1]:g}); sort it "
                "and remove repeats"
            )


SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "karras": karras_sigmas,
    "align_your_steps": align_your_steps_sigmas,
    "lcm": lcm_sigmas,
    "exponential": exponential_sigmas,
}


def make_sigmas(
    kind: str, steps: int, *, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, denoise: float = 1.0
) -> Tensor:
    """Return the schedule named `kind` (a key of SCHEDULES) with exactly `steps` steps: [steps + 1], float32.

    `denoise` in (0, 1] skips the noisiest part, for starting from an existing latent: the result is the last `steps`
    of a schedule of int(steps / denoise) steps, as in ComfyUI's KSampler.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"the schedule {kind!r} is unknown; use one of {', '.join(SCHEDULES)}")
    if not 0 < denoise <= 1:
        raise ValueError(f"denoise must be above 0 and at most 1 (got {denoise:g}); use 1 to start from pure noise")
    _check_range(steps, sigma_min, sigma_max)
    return SCHEDULES[kind](int(steps / denoise), sigma_min, sigma_max)[-(steps + 1) :]


def _karras(steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]


def _tensor(sigmas: list[float]) -> Tensor:
    # Lists are computed in float64: in float32 the power formula starts at 700.0001.
    result = torch.tensor([*sigmas, 0.0], dtype=torch.float32)
    check_sigmas(result)
    return result


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    if not isinstance(steps, int):
        raise TypeError(f"steps must be a whole number (got {steps!r}); use 20 to 30")
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps must be 1 to {MAX_STEPS} (got {steps}); use 20 to 30")
    if not (math.isfinite(sigma_max) and 0 < sigma_min < sigma_max):
        raise ValueError(
            f"sigma_max must be above sigma_min, and both above 0 (got {sigma_max:g} and {sigma_min:g}); use 700 and "
            "0.002"
        )
