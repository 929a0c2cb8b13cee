"""The node that makes a list of noise levels."""

from torch import Tensor

from ..svd_core.sampling.schedules import SCHEDULES, SIGMA_MAX, SIGMA_MIN, custom_sigmas, make_sigmas
from .shared import inputs
from .shared.curve import draw_sigmas

CUSTOM = "custom"


class SVDReelSchedule:
    """A list of noise levels."""

    DISPLAY_NAME = "Make Noise Schedule (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = "The noise levels that sampling steps through. The defaults are SVD's own."
    SEARCH_ALIASES = ["sigmas", "scheduler", "karras", "EDM", "align your steps", "AYS", "lcm", "AnimateLCM", "denoise"]
    RETURN_TYPES = ("SIGMAS", "IMAGE")
    RETURN_NAMES = ("sigmas", "curve")
    OUTPUT_TOOLTIPS = (
        "For Sample SVD Clip, or any sampler of ComfyUI that takes SIGMAS.",
        "The noise levels over the steps as a drawing, for Preview Image.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "kind": inputs.choice(
                    [*SCHEDULES, CUSTOM],
                    "karras: SVD's own (EDM). align_your_steps: made for SVD at 10 steps, 2.5 times as fast as 25, for "
                    "a little less detail. lcm: for AnimateLCM models at 1 to 8 steps, with the lcm solver and "
                    "guidance 1 to 1.2. exponential: even in log noise. custom: the list below.",
                ),
                "steps": inputs.whole(
                    25,
                    1,
                    1000,
                    "Number of steps. 25 for SVD, 30 for SVD-XT, 8 to 12 with align_your_steps, 4 with lcm. Time "
                    "grows with it; past 30 it is hardly better. Not used by custom.",
                ),
            },
            "optional": {
                "sigma_max": inputs.decimal(
                    SIGMA_MAX,
                    0.01,
                    10000.0,
                    "Noise level of the first step. SVD was made for 700; 100 to 300 keeps closer to a latent that is "
                    "given, and moves less.",
                    step=1.0,
                    advanced=True,
                ),
                "sigma_min": inputs.decimal(
                    SIGMA_MIN,
                    0.0001,
                    100.0,
                    "Noise level of the last step before 0. SVD was made for 0.002; raising it leaves fine noise.",
                    step=0.001,
                    advanced=True,
                ),
                "denoise": inputs.decimal(
                    1.0,
                    0.01,
                    1.0,
                    "Share of the schedule that is run, from its low end. 1 makes a new clip; 0.3 to 0.7 changes the "
                    "clip that is in the latent a little or much.",
                    step=0.01,
                    advanced=True,
                ),
                "sigmas": inputs.text(
                    "700, 54.5, 15.9, 4.25, 0.98, 0.17, 0",
                    "For custom: falling noise levels separated by commas, usually ending in 0.",
                    advanced=True,
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
    ) -> tuple[Tensor, Tensor]:
        if kind == CUSTOM:
            levels = custom_sigmas(inputs.parse_numbers(sigmas, "the custom sigma list"))
        else:
            levels = make_sigmas(kind, steps, sigma_min=sigma_min, sigma_max=sigma_max, denoise=denoise)
        return (levels, draw_sigmas(levels))


NODES = [SVDReelSchedule]
