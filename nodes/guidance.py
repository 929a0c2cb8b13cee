"""The node that shapes guidance over the frames of a clip."""

import math
from dataclasses import dataclass

import torch

from ..svd_core.networks.config import SVDConfig
from ..svd_core.pipelines.clip import AnimateSettings
from ..svd_core.sampling.guidance import GUIDANCE_SHAPES, Guidance, custom_guidance, guidance_curve
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.curve import draw_curve

AUTOMATIC = -1.0
CUSTOM = "custom"


@dataclass(frozen=True)
class GuidanceCurve:
    """What travels on the SVD_GUIDANCE socket: a curve over the frames of whatever clip it meets.

    `low` and `high` of None are those that the loaded model was released with. `points` are scales spread evenly over
    the clip, for the shape "custom". Guidance is off outside sigma_low..sigma_high.
    """

    shape: str = "linear"
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()
    sigma_low: float = 0.0
    sigma_high: float = math.inf

    def __post_init__(self) -> None:
        Guidance(torch.ones(1), self.sigma_low, self.sigma_high)  # checks the interval here, not at the sampler

    def over(self, frames: int, config: SVDConfig) -> Guidance:
        """The scales for a clip of so many frames by the model of `config`."""
        if self.shape == CUSTOM:
            scale = custom_guidance(self.points, frames)
        else:
            settings = AnimateSettings(frames=frames, min_guidance=self.low, max_guidance=self.high).resolve(config)
            scale = guidance_curve(self.shape, settings.min_guidance, settings.max_guidance, frames)
        return Guidance(scale, self.sigma_low, self.sigma_high)


class SVDReelGuidance:
    """A guidance curve over the frames."""

    DISPLAY_NAME = "Shape Guidance over Frames (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Guidance of each frame of the clip. Later frames are further from the picture and need more; too much burns "
        "colours and freezes motion. Leave it out to use what the loaded model was released with."
    )
    SEARCH_ALIASES = [
        "VideoLinearCFGGuidance",
        "VideoTriangleCFGGuidance",
        "cfg",
        "min_cfg",
        "guidance scale",
        "guider",
    ]
    RETURN_TYPES = ("SVD_GUIDANCE", "IMAGE")
    RETURN_NAMES = ("guidance", "curve")
    OUTPUT_TOOLTIPS = ("For Sample SVD Clip.", "The curve as a drawing, for Preview Image.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "shape": inputs.choice(
                    [*GUIDANCE_SHAPES, CUSTOM],
                    "Course over the clip. linear: low to high, as SVD was released. constant: high everywhere. "
                    "triangle: up to the middle and back. trapezoid: high except at both ends. cosine: low to high, "
                    "eased. custom: the points below.",
                ),
                "low": inputs.decimal(
                    AUTOMATIC,
                    AUTOMATIC,
                    100.0,
                    "Lowest guidance. -1 takes the loaded model's own (1 for SVD, 1.5 for SVD-XT); 1 means no "
                    "guidance, which is also faster.",
                ),
                "high": inputs.decimal(
                    AUTOMATIC,
                    AUTOMATIC,
                    100.0,
                    "Highest guidance. -1 takes the loaded model's own (2.5 for SVD, 3 for SVD-XT). Raising it "
                    "follows the picture more closely; above 4 colours burn.",
                ),
            },
            "optional": {
                "sigma_high": inputs.decimal(
                    SIGMA_MAX,
                    0.0,
                    10000.0,
                    "Guidance starts once the noise level has fallen to this. 700 starts at once; 100 leaves the first "
                    "steps free, for more motion. Steps without guidance take half the time: 7 of 25 at 100.",
                    advanced=True,
                ),
                "sigma_low": inputs.decimal(
                    0.0,
                    0.0,
                    10000.0,
                    "Guidance ends once the noise level has fallen below this. 0 keeps it to the end; 1 halves the "
                    "time of the last 7 of 25 steps, where it matters for fine details alone.",
                    advanced=True,
                ),
                "points": inputs.text(
                    "1, 2.5, 1",
                    "For the custom shape: guidance scales spread evenly from the first to the last frame, separated "
                    "by commas.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        shape: str,
        low: float,
        high: float,
        sigma_high: float = SIGMA_MAX,
        sigma_low: float = 0.0,
        points: str = "1, 2.5, 1",
    ) -> tuple:
        values = inputs.parse_numbers(points, "points of the guidance curve") if shape == CUSTOM else ()
        for name, value in (("low", low), ("high", high)):
            if AUTOMATIC < value < 0:
                raise ValueError(f"{name} is {value:g}; use -1 for the model's own, or 0 and above")
        # The widget's highest start means no limit, so that schedules that begin above it are guided as well.
        upper = math.inf if sigma_high >= SIGMA_MAX else sigma_high
        ends = (None if end == AUTOMATIC else end for end in (low, high))
        curve = GuidanceCurve(shape, *ends, values, sigma_low, upper)
        return (curve, draw_curve(curve.shape, curve.low, curve.high, curve.points))


NODES = [SVDReelGuidance]
