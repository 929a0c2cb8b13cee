"""The node that says how much moves, and when."""

from ..svd_core.controls.amount import BLUR, PRESETS, BucketGuidance, LowPassStart, MotionCurves, Points
from .shared import inputs
from .shared.controls import ControlChain
from .shared.curve import draw_motion

FROM_WIDGETS = "from the widgets"
OFF = -1
PICTURES = ("no picture", "the start picture")


class SVDReelMotionAmount:
    """Controls of the amount of motion."""

    DISPLAY_NAME = "Control Amount of Motion (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "More motion, less motion, or motion that changes during the clip, with the usual weights and no extra time: a "
        "lower start, a motion bucket and fps for every frame, guidance that compares with another motion bucket. As "
        "it comes from the menu it changes nothing."
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
        "For Sample SVD Clip, or for another control to go on.",
        "What changes over the clip as a drawing, for Preview Image.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "preset": inputs.choice(
                    [FROM_WIDGETS, *PRESETS],
                    "Replaces all that is set below. calm: bucket 30, guidance away from bucket 127. lively: start at "
                    "sigma 100, buckets 127 to 200 that start gently, guidance away from bucket 0. Both want guidance "
                    "above 1.",
                ),
                "start_sigma": inputs.decimal(
                    0.0,
                    0.0,
                    700.0,
                    "Noise level, for 1024x576 and scaled to other sizes, at which sampling starts, from noise about a "
                    "blur of the picture. 0 is off. 100 is usual: SVD copies the picture from 700 and moves more from "
                    "50 to 300; below 50 it comes apart. Steps above are skipped, which saves time.",
                    step=5.0,
                ),
                "bucket_curve": inputs.text(
                    "",
                    "Motion bucket over the clip, as position:bucket, such as 0:60, 0.5:180, 1:127: position 0 is the "
                    "first frame, 1 the last. Numbers alone are spread evenly. Empty is off: one bucket for all. "
                    "Change it gently, by a third from frame to frame at most.",
                ),
                "fps_curve": inputs.text(
                    "",
                    "Frames per second over the clip, written as the bucket curve, such as 0:12, 1:6. A lower number "
                    "makes larger steps between frames. Empty is off.",
                ),
                "compare_bucket": inputs.whole(
                    OFF,
                    OFF,
                    1023,
                    "Motion bucket that guidance compares with, and pushes away from: 0 to 20 for more motion, 127 to "
                    "255 for less. -1 is off: the clip's own. It costs nothing, and needs guidance above 1, 1.5 to 3.",
                ),
            },
            "optional": {
                "compare_with": inputs.choice(
                    PICTURES,
                    "What else that comparison leaves out. no picture: as usual, guidance also strengthens the "
                    "picture. the start picture: guidance is about motion alone; details are then held less.",
                    advanced=True,
                ),
                "blur": inputs.decimal(
                    BLUR,
                    0.0,
                    64.0,
                    "Blur of the picture at a lower start, in latent cells (8 pixels) at 1024x576. 8 keeps light and "
                    "colour; less holds the layout as well.",
                    step=1.0,
                    advanced=True,
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which comes before this one."),
            },
        }

    def execute(
        self,
        preset: str,
        start_sigma: float,
        bucket_curve: str,
        fps_curve: str,
        compare_bucket: int,
        compare_with: str = PICTURES[0],
        blur: float = BLUR,
        control: ControlChain | None = None,
    ) -> tuple:
        if preset == FROM_WIDGETS:
            bucket = None if compare_bucket == OFF else float(compare_bucket)
            controls = (
                LowPassStart(start_sigma, blur),
                MotionCurves(parse_points(bucket_curve, "the bucket curve"), parse_points(fps_curve, "the fps curve")),
                BucketGuidance(bucket, compare_with == PICTURES[1]),
            )
        else:
            controls = PRESETS[preset]
        chain = control or ControlChain()
        for one in controls:
            chain = chain.then([one]) if one.active else chain
        return (chain, draw_motion(controls))


def parse_points(text: str, what: str) -> Points:
    """Points (position, value) of "0:60, 0.5:180, 1:127", or of "60, 180, 127" at even distances; none if empty.

    ValueError naming `what` for anything else.
    """
    words = text.replace(",", " ").split()
    points = []
    for number, word in enumerate(words):
        position, colon, value = word.rpartition(":")
        try:
            points.append((float(position) if colon else number / max(len(words) - 1, 1), float(value)))
        except ValueError:
            points.clear()
            break
    if bool(points) != bool(words) or 0 < text.count(":") < len(words):
        raise ValueError(f"{what} is {text!r}; write positions and values such as 0:60, 0.5:180, 1:127")
    return tuple(points)


NODES = [SVDReelMotionAmount]
