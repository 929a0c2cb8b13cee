"""The node that plans the duration of a video.

`svd_core.finish` is imported on first use, because ComfyUI imports every pack at start-up.
"""

from .shared import inputs
from .shared.model import LoadedModel

LENGTHS = ("all frames that come of it", "exactly the seconds")


class SVDReelDuration:
    """Convert seconds and frame rate to frames."""

    DISPLAY_NAME = "Plan Duration (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Plans a video of a given duration: how many frames the model makes, how many are added between them, and "
        "the exact total. 5 seconds at 24 fps are 25 frames with 4 between each pair: 121."
    )
    SEARCH_ALIASES = [
        "duration",
        "length",
        "seconds",
        "frame count",
        "frame rate",
        "interpolation multiplier",
        "5 seconds",
    ]
    RETURN_TYPES = ("INT", "INT", "FLOAT", "INT", "FLOAT", "STRING")
    RETURN_NAMES = ("frames", "interpolate", "fps", "film_frames", "motion_fps", "text")
    OUTPUT_TOOLTIPS = (
        "Frames for the model, for Prepare Image for SVD or Animate Image.",
        "Frame rate multiplier, for Finish Film and for the multiplier of Run Frame Interpolation Model.",
        "Frame rate of the video, for Finish Film or Create Video.",
        "Number of frames in the finished video, for most_frames of Finish Film.",
        "How many of the model's own frames play per second. Set fps in Set Motion near this value, but not below 5.",
        "The plan in words, for Preview Any.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.finish.duration import MOST_FACTOR

        return {
            "required": {
                "seconds": inputs.decimal(
                    5.0, 0.1, 3600.0, "Duration of the video in seconds. One clip of SVD-XT fills 3 to 6.", step=0.5
                ),
                "fps": inputs.decimal(
                    24.0, 1.0, 120.0, "Frame rate of the video: 24 is cinema, 25 and 30 are video.", step=1.0
                ),
                "clip_frames": inputs.whole(
                    0,
                    0,
                    inputs.MAX_FRAMES,
                    "Frames that the model makes at once: 14 for SVD, 25 for SVD-XT. 0 uses the connected model's "
                    "own number, or 25 without a model.",
                ),
                "interpolate": inputs.whole(
                    0,
                    0,
                    MOST_FACTOR,
                    "Frame rate multiplier between the model's frames and the video. 0 chooses the smallest with "
                    "which one clip fills the video.",
                ),
                "length": inputs.choice(
                    LENGTHS,
                    "Whether the video keeps every frame, which can be slightly longer (121 frames), or ends exactly "
                    "at the given duration (120).",
                    advanced=True,
                ),
            },
            "optional": {
                "model": inputs.socket("SVD_MODEL", "The model, from which the number of frames per clip is taken.")
            },
        }

    def execute(
        self,
        seconds: float,
        fps: float,
        clip_frames: int,
        interpolate: int,
        length: str,
        model: LoadedModel | None = None,
    ) -> tuple:
        from ..svd_core.finish.duration import plan_duration

        own = clip_frames or (25 if model is None else model.config.frames)
        plan = plan_duration(seconds, fps, clip_frames=own, factor=interpolate, keep_frames=length == LENGTHS[0])
        return (plan.frames, plan.factor, float(fps), plan.count, plan.motion_fps, plan.text(own))


NODES = [SVDReelDuration]
