"""The node that reuses cached UNet features over several steps."""

import math

from ..svd_core.sampling.limits import DEPTH
from ..svd_core.sampling.reuse import ReuseFeatures
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.controls import ControlChain


class SVDReelReuseFeatures:
    """Run the inner network only in some steps."""

    DISPLAY_NAME = "Reuse Features (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "Speeds up drafts: the inner network runs only in some steps, and the steps between reuse its cached "
        "features (DeepCache). The clip changes slightly; set interval to 1 for the exact one. Connect it to Sample "
        "SVD Clip or another node that takes a control. For KSampler, use Export SVD to ComfyUI Model."
    )
    SEARCH_ALIASES = ["DeepCache", "TeaCache", "first block cache", "faster", "speed up", "skip steps", "cache"]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("The control, for Sample SVD Clip or the next control node.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "interval": inputs.whole(
                    2,
                    1,
                    20,
                    "The whole network runs once in this many steps. 1 is off and exact. At depth 2, the steps of "
                    "SVD take 0.62 of the time with 2 and 0.5 with 3. Details drift more with higher values, and "
                    "above 5 motion breaks. Not calibrated on the real weights.",
                ),
                "depth": inputs.whole(
                    DEPTH,
                    1,
                    11,
                    "Number of outer block pairs that run in every step. 1 is fastest and drifts: a reused step "
                    "costs 0.09 of a whole one. 2 costs 0.25 and is close, 3 costs 0.42 and is closer. The cache "
                    "takes 0.3 GB for SVD-XT at depth 1 and 2, 0.6 GB at depth 3.",
                ),
            },
            "optional": {
                "control": inputs.socket(
                    "SVD_CONTROL", "Another control, which is applied before features are reused."
                ),
                "sigma_high": inputs.decimal(
                    SIGMA_MAX,
                    0.0,
                    10000.0,
                    "Noise level below which features are reused. 700 starts at once. 50 keeps the first steps "
                    "exact, which form the motion, and saves less.",
                    step=1.0,
                    advanced=True,
                ),
                "sigma_low": inputs.decimal(
                    0.0,
                    0.0,
                    10000.0,
                    "Noise level down to which features are reused. 0 continues to the end. 0.3 keeps the last steps "
                    "exact, which form fine details, and saves less.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        interval: int,
        depth: int,
        control: ControlChain | None = None,
        sigma_high: float = SIGMA_MAX,
        sigma_low: float = 0.0,
    ) -> tuple[ControlChain]:
        # The highest value means no limit, so that schedules that start above it are covered as well.
        upper = math.inf if sigma_high >= SIGMA_MAX else sigma_high
        return ((control or ControlChain()).then([ReuseFeatures(interval, depth, sigma_low, upper)]),)


NODES = [SVDReelReuseFeatures]
