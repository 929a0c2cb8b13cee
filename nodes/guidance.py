"""The node that sets the guidance scale of each frame."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..svd_core.networks.config import SVDConfig
from ..svd_core.pipelines.settings import AnimateSettings
from ..svd_core.sampling.guidance import GUIDANCE_SHAPES, Guidance, custom_guidance, guidance_curve
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.curve import draw_curve
from .shared.host_curve import curve_levels, curve_socket

AUTOMATIC = -1.0
CUSTOM = "custom"


@dataclass(frozen=True)
class GuidanceCurve:
    """The value of the SVD_GUIDANCE socket: a guidance curve for a clip of any length.

    `low` and `high` are the ends of the curve; None uses the values the loaded model was released with. `points` are
    scales spread evenly over the clip, for the shape "custom". `levels` are shares of the way from low to high, in
    place of a shape. Guidance is off outside sigma_low..sigma_high.
    """

    shape: str = "linear"
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()
    sigma_low: float = 0.0
    sigma_high: float = math.inf
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        Guidance(torch.ones(1), self.sigma_low, self.sigma_high)  # checks the interval here, not at the sampler

    def over(self, frames: int, config: SVDConfig) -> Guidance:
        """Return the guidance of a clip of `frames` frames for the model of `config`."""
        if self.shape == CUSTOM:
            scale = custom_guidance(self.points, frames)
        else:
            settings = AnimateSettings(frames=frames, min_guidance=self.low, max_guidance=self.high).resolve(config)
            low, high = settings.min_guidance, settings.max_guidance
            scale = guidance_curve(self.shape, low, high, frames)
            if self.levels:
                scale = low + (high - low) * custom_guidance(self.levels, frames)
        return Guidance(scale, self.sigma_low, self.sigma_high)


class SVDReelGuidance:
    """Set guidance over the frames."""

    DISPLAY_NAME = "Shape Guidance over Frames (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Sets the guidance scale (CFG) of each frame. Later frames are further from the image and need more; too "
        "much burns colours and freezes motion. Without this node, the sampler uses the values the model was "
        "released with."
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
    OUTPUT_TOOLTIPS = ("The guidance curve, for Sample SVD Clip.", "The curve as a drawing, for Preview Image.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "shape": inputs.choice(
                    [*GUIDANCE_SHAPES, CUSTOM],
                    "How guidance changes over the clip. linear rises from low to high, as SVD was released. "
                    "constant is high everywhere. triangle rises to the middle and falls back. trapezoid is high "
                    "except at both ends. cosine rises smoothly. custom uses the points below.",
                ),
                "low": inputs.decimal(
                    AUTOMATIC,
                    AUTOMATIC,
                    100.0,
                    "Lowest guidance scale. -1 uses the loaded model's own (1 for SVD, 1.5 for SVD-XT). 1 means no "
                    "guidance, which is also faster.",
                ),
                "high": inputs.decimal(
                    AUTOMATIC,
                    AUTOMATIC,
                    100.0,
                    "Highest guidance scale. -1 uses the loaded model's own (2.5 for SVD, 3 for SVD-XT). Raise it to "
                    "follow the image more closely; above 4 colours burn.",
                ),
            },
            "optional": {
                "sigma_high": inputs.decimal(
                    SIGMA_MAX,
                    0.0,
                    10000.0,
                    "Noise level below which guidance starts. 700 starts at once; 100 leaves the first steps "
                    "unguided for more motion. A step without guidance takes half the time: 7 of 25 at 100.",
                    advanced=True,
                ),
                "sigma_low": inputs.decimal(
                    0.0,
                    0.0,
                    10000.0,
                    "Noise level below which guidance stops. 0 keeps it to the end; 1 halves the time of the last 7 "
                    "of 25 steps, where it only affects fine details.",
                    advanced=True,
                ),
                "points": inputs.text(
                    "1, 2.5, 1",
                    "Guidance scales for the custom shape, separated by commas and spread evenly from the first to "
                    "the last frame.",
                    advanced=True,
                ),
                "curve": curve_socket(
                    "A curve over the clip from ComfyUI's Curve Editor, in place of shape: 0 is low, 1 is high."
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
        curve: Any = None,
    ) -> tuple:
        levels = () if curve is None else curve_levels(curve, "curve")
        shape = "linear" if levels else shape
        values = inputs.parse_numbers(points, "points of the guidance curve") if shape == CUSTOM else ()
        for name, value in (("low", low), ("high", high)):
            if AUTOMATIC < value < 0:
                raise ValueError(f"{name} is {value:g}; use -1 for the model's own, or 0 and above")
        # The widget's highest start means no limit, so that schedules that begin above it are guided as well.
        upper = math.inf if sigma_high >= SIGMA_MAX else sigma_high
        ends = (None if end == AUTOMATIC else end for end in (low, high))
        made = GuidanceCurve(shape, *ends, values, sigma_low, upper, levels)
        return (made, draw_curve(made.shape, made.low, made.high, made.points, levels))


NODES = [SVDReelGuidance]
