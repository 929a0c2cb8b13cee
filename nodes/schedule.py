"""The node that makes a list of noise levels."""

from typing import Any

from torch import Tensor

from ..svd_core.sampling.schedules import SCHEDULES, SIGMA_MAX, SIGMA_MIN, custom_sigmas, make_sigmas
from .shared import inputs
from .shared.curve import draw_sigmas
from .shared.host_curve import curve_levels, curve_socket

CUSTOM = "custom"


class SVDReelSchedule:
    """Make a list of noise levels."""

    DISPLAY_NAME = "Make Noise Schedule (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = "Sets the noise levels of the sampling steps. The defaults are SVD's own."
    SEARCH_ALIASES = ["sigmas", "scheduler", "karras", "EDM", "align your steps", "AYS", "lcm", "AnimateLCM", "denoise"]
    RETURN_TYPES = ("SIGMAS", "IMAGE")
    RETURN_NAMES = ("sigmas", "curve")
    OUTPUT_TOOLTIPS = (
        "The noise levels, for Sample SVD Clip or any ComfyUI sampler that takes SIGMAS.",
        "The noise levels over the steps as a drawing, for Preview Image.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "kind": inputs.choice(
                    [*SCHEDULES, CUSTOM],
                    "The schedule. karras is SVD's own (EDM). align_your_steps is made for SVD at 10 steps: 2.5 "
                    "times as fast as 25, with slightly less detail. lcm is for AnimateLCM models at 1 to 8 steps, "
                    "with the lcm solver and guidance 1 to 1.2. exponential is even in log noise. custom uses the "
                    "list below.",
                ),
                "steps": inputs.whole(
                    25,
                    1,
                    1000,
                    "Number of steps: 25 for SVD, 30 for SVD-XT, 8 to 12 with align_your_steps, 4 with lcm. Time "
                    "grows with it, and more than 30 hardly improves the clip. custom ignores it.",
                ),
            },
            "optional": {
                "sigma_max": inputs.decimal(
                    SIGMA_MAX,
                    0.01,
                    10000.0,
                    "Noise level of the first step. SVD was made for 700; 100 to 300 stays closer to a given latent "
                    "and moves less.",
                    step=1.0,
                    advanced=True,
                ),
                "sigma_min": inputs.decimal(
                    SIGMA_MIN,
                    0.0001,
                    100.0,
                    "Noise level of the last step before 0. SVD was made for 0.002; higher values leave fine noise.",
                    step=0.001,
                    advanced=True,
                ),
                "denoise": inputs.decimal(
                    1.0,
                    0.01,
                    1.0,
                    "Share of the schedule that runs, counted from its low end. 1 makes a new clip. 0.3 to 0.7 "
                    "changes the clip in the latent, from slightly to strongly.",
                    step=0.01,
                    advanced=True,
                ),
                "sigmas": inputs.text(
                    "700, 54.5, 15.9, 4.25, 0.98, 0.17, 0",
                    "Noise levels for custom, separated by commas: falling, usually ending in 0.",
                    advanced=True,
                ),
                "curve": curve_socket(
                    "A falling curve over the steps from ComfyUI's Curve Editor, in place of kind: 1 is sigma_max, 0 "
                    "is sigma_min, on a logarithmic scale."
                ),
            },
        }

    def execute(
        self,
        kind: str,
        steps: int,
        sigma_max: float = SIGMA_MAX,
        sigma_min: float = SIGMA_MIN,
        denoise: float = 1.0,
        sigmas: str = "",
        curve: Any = None,
    ) -> tuple[Tensor, Tensor]:
        if curve is not None:
            levels = curve_sigmas(curve, steps, sigma_min, sigma_max, denoise)
        elif kind == CUSTOM:
            levels = custom_sigmas(inputs.parse_numbers(sigmas, "the custom sigma list"))
        else:
            levels = make_sigmas(kind, steps, sigma_min=sigma_min, sigma_max=sigma_max, denoise=denoise)
        return (levels, draw_sigmas(levels))


def curve_sigmas(curve: Any, steps: int, low: float, high: float, denoise: float) -> Tensor:
    """Return noise levels [steps + 1] that fall along a connected curve from `high` to `low`, then 0.

    A denoise below 1 keeps the low end of the curve.
    """
    if not low < high:
        raise ValueError(f"sigma_min must be below sigma_max (got {low:g} and {high:g})")
    shares = curve_levels(curve, "curve", int(steps / denoise))[-steps:]
    if any(after >= before for before, after in zip(shares, shares[1:], strict=False)):
        raise ValueError("the curve of noise levels must fall from the first step to the last; draw it from 1 to 0")
    return custom_sigmas([*(low * (high / low) ** share for share in shares), 0.0])


NODES = [SVDReelSchedule]
