"""The node that lets features of the network serve for several steps."""

import math

from ..svd_core.sampling.reuse import DEPTH, ReuseFeatures
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.controls import ControlChain


class SVDReelReuseFeatures:
    """The control that runs the inner network at some steps only."""

    DISPLAY_NAME = "Reuse Features (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "Faster drafts: the inside of the network runs at some steps only, and the steps between take up what it found "
        "(DeepCache). The clip changes a little; set interval to 1 for the exact one. For Sample SVD Clip and the "
        "other nodes that take a control; KSampler has it in Export SVD to ComfyUI Model."
    )
    SEARCH_ALIASES = ["DeepCache", "TeaCache", "first block cache", "faster", "speed up", "skip steps", "cache"]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("For Sample SVD Clip, or for another control to go on.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "interval": inputs.whole(
                    2,
                    1,
                    20,
                    "The whole network runs at every so many steps. 1 is off and exact. At depth 2 the steps of SVD "
                    "take 0.62 of the time with 2 and 0.5 with 3, and details drift more the higher it is; above 5 "
                    "motion breaks. Not calibrated on the real weights.",
                ),
                "depth": inputs.whole(
                    DEPTH,
                    1,
                    11,
                    "Outermost pairs of blocks that run in every step. 1: fastest, a step between costs 0.09 of a "
                    "whole one, and drifts. 2: 0.25 of one, close. 3: 0.42, closer. Features of both branches of "
                    "guidance stay on the device meanwhile: 0.3 GB for SVD-XT at depth 1 and 2, 0.6 GB at depth 3.",
                ),
            },
            "optional": {
                "control": inputs.socket("SVD_CONTROL", "Another control, which comes before the reuse of features."),
                "sigma_high": inputs.decimal(
                    SIGMA_MAX,
                    0.0,
                    10000.0,
                    "Features are reused once the noise level has fallen to this. 700 begins at once; 50 keeps the "
                    "first steps, which lay out the motion, exact, and saves less.",
                    step=1.0,
                    advanced=True,
                ),
                "sigma_low": inputs.decimal(
                    0.0,
                    0.0,
                    10000.0,
                    "Features are reused down to this noise level. 0 goes on to the end; 0.3 keeps the last steps, "
                    "which draw fine details, exact, and saves less.",
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
        # The widget's highest start means no limit, so that schedules that begin above it are covered as well.
        upper = math.inf if sigma_high >= SIGMA_MAX else sigma_high
        return ((control or ControlChain()).then([ReuseFeatures(interval, depth, sigma_low, upper)]),)


NODES = [SVDReelReuseFeatures]
