"""The node that changes the amount of motion, also over the clip."""

from typing import Any

from ..svd_core.controls.amount import (
    BLUR,
    PRESETS,
    BucketGuidance,
    LowPassStart,
    MotionCurves,
    Points,
    SoftenedCondition,
    parse_points,
)
from ..svd_core.pipelines.control_settings import COMPARED
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.controls import ControlChain
from .shared.curve import draw_motion
from .shared.host_curve import curve_levels, curve_socket

FROM_WIDGETS = "from the widgets"
OFF = -1
CURVE_BUCKET, CURVE_FPS = 255, 30  # at the top of a connected curve


class SVDReelMotionAmount:
    """Control the amount of motion."""

    DISPLAY_NAME = "Control Amount of Motion (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "More motion, less motion, or motion that changes during the clip, with the usual weights and no extra time: "
        "a lower start, a motion bucket and fps for every frame, guidance against another motion bucket, and a "
        "softened image at high noise. With its defaults it changes nothing."
    )
    SEARCH_ALIASES = [
        "more motion",
        "less motion",
        "motion bucket curve",
        "fps curve",
        "motion schedule",
        "motion guidance",
        "Analytic-Init",
        "sigma_max",
    ]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE")
    RETURN_NAMES = ("control", "curve")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "What changes over the clip as a drawing, for Preview Image.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "preset": inputs.choice(
                    [FROM_WIDGETS, *PRESETS],
                    "Replaces all widgets below. calm: bucket 30, guidance away from bucket 127. lively: start at "
                    "sigma 100, buckets 127 to 200 with a gentle start, guidance away from bucket 0. Both need "
                    "guidance above 1.",
                ),
                "start_sigma": inputs.decimal(
                    0.0,
                    0.0,
                    SIGMA_MAX,
                    "Noise level (at 1024x576, scaled to other sizes) at which sampling starts, from noise over a "
                    "blurred image. 0 is off, 100 is usual. SVD copies the image from 700 and moves more from 50 to "
                    "300; below 50 the clip falls apart. Skipped steps save time.",
                    step=5.0,
                ),
                "bucket_curve": inputs.text(
                    "",
                    "Motion bucket over the clip as position:bucket, such as 0:60, 0.5:180, 1:127; position 0 is the "
                    "first frame, 1 the last. Numbers without positions are spread evenly; empty is off. Change it "
                    "gently, by at most a third from frame to frame.",
                ),
                "fps_curve": inputs.text(
                    "",
                    "Frame rate over the clip, written like the bucket curve, such as 0:12, 1:6. A lower number "
                    "makes larger motion between frames. Empty is off.",
                ),
                "compare_bucket": inputs.whole(
                    OFF,
                    OFF,
                    inputs.MAX_BUCKET,
                    "Motion bucket that guidance pushes away from: 0 to 20 for more motion, 127 to 255 for less. -1 "
                    "is off. It takes no time, but needs guidance above 1, best 1.5 to 3.",
                ),
            },
            "optional": {
                "compare_with": inputs.choice(
                    COMPARED,
                    "What the unconditional pass of that comparison shows. no picture is the usual one: guidance "
                    "also strengthens the image. the start picture limits guidance to motion; details are then held "
                    "less.",
                    advanced=True,
                ),
                "blur": inputs.decimal(
                    BLUR,
                    0.0,
                    64.0,
                    "Blur of the image at a lower start, in latent cells (8 pixels) at 1024x576. 8 keeps light and "
                    "colour; lower values keep the layout as well.",
                    step=1.0,
                    advanced=True,
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "soften_above": inputs.decimal(
                    0.0,
                    0.0,
                    SIGMA_MAX,
                    "Noise level at 1024x576 above which the network sees a blurred image (adaptive low-pass), so that "
                    "motion forms before details. 0 is off, 40 to 100 is usual. It takes no time.",
                    step=5.0,
                ),
                "bucket_from": curve_socket(
                    "A curve over the clip from ComfyUI's Curve Editor, in place of bucket_curve: 0 is bucket 0, 1 is "
                    f"bucket {CURVE_BUCKET}."
                ),
                "fps_from": curve_socket(
                    "A curve over the clip from ComfyUI's Curve Editor, in place of fps_curve: 0 is 1 frame per "
                    f"second, 1 is {CURVE_FPS}."
                ),
            },
        }

    def execute(
        self,
        preset: str,
        start_sigma: float,
        bucket_curve: str,
        fps_curve: str,
        compare_bucket: int,
        compare_with: str = COMPARED[0],
        blur: float = BLUR,
        control: ControlChain | None = None,
        soften_above: float = 0.0,
        bucket_from: Any = None,
        fps_from: Any = None,
    ) -> tuple:
        if preset == FROM_WIDGETS:
            bucket = None if compare_bucket == OFF else float(compare_bucket)
            controls = (
                LowPassStart(start_sigma, blur),
                MotionCurves(
                    connected_points(bucket_from, "bucket_from", 0, CURVE_BUCKET)
                    or parse_points(bucket_curve, "the bucket curve"),
                    connected_points(fps_from, "fps_from", 1, CURVE_FPS) or parse_points(fps_curve, "the fps curve"),
                ),
                BucketGuidance(bucket, compare_with == COMPARED[1]),
                SoftenedCondition(soften_above),
            )
        else:
            controls = PRESETS[preset]
        chain = control or ControlChain()
        for one in controls:
            chain = chain.then([one]) if one.active else chain
        return (chain, draw_motion(controls))


def connected_points(curve: Any, name: str, low: float, high: float) -> Points:
    """Return points (position, value) of a connected curve, whose 0 is `low` and 1 is `high`; none without one."""
    levels = () if curve is None else curve_levels(curve, name)
    return tuple((place / (len(levels) - 1), low + (high - low) * level) for place, level in enumerate(levels))


NODES = [SVDReelMotionAmount]
