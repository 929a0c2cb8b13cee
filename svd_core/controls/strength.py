"""What the strength of a control means, and the checks of numbers that controls share.

Sigmas of controls are meant for 1024x576 and scaled to the size of the clip (`Run.scale`).
"""

import math

from ..sampling.controls import Run


def release_level(run: Run, sigma: float, strength: float) -> float:
    """Return the noise level at which a control lets go of the clip, if it does so at `sigma` at strength 1.

    Strength moves the level in even steps of its logarithm: from the first sigma of the run (0, so the control does
    nothing) to the scaled `sigma` (1) and on to lower noise (above 1).
    """
    first = run.sigmas[0]
    return first * (min(sigma * run.scale, first) / first) ** strength


def check_strength(strength: float, remedy: str = "use 1, or 0 to switch it off") -> None:
    """Raise ValueError unless a strength is finite and 0 or above."""
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"the strength must be 0 or above (got {strength:g}); {remedy}")


def check_share(name: str, value: float, remedy: str) -> None:
    """Raise ValueError unless the setting `name` is between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1 (got {value:g}); {remedy}")


def check_sigma(name: str, value: float, remedy: str) -> None:
    """Raise ValueError unless the noise level `name` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0 (got {value:g}); {remedy}")
