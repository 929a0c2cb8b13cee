"""The node that plans how long a film becomes.

What makes films is imported when it is asked for: the host imports every pack when it starts.
"""

from .shared import inputs
from .shared.model import LoadedModel

LENGTHS = ("all frames that come of it", "exactly the seconds")


class SVDReelDuration:
    """Seconds to frames."""

    DISPLAY_NAME = "Plan Duration (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Plans a film of so many seconds: how many frames the model makes, how many are put between them, and the "
        "exact number of frames. 5 seconds at 24 frames a second are 25 frames with 4 between each two: 121."
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
        "Frames of the model, for Prepare Image for SVD or Animate Image.",
        "Steps from each frame to the next, for Finish Film and for the multiplier of Run Frame Interpolation Model.",
        "Frames per second of the film, for Finish Film or Create Video.",
        "Frames of the finished film, for most_frames of Finish Film.",
        "The model's own frames a second in the film: fps in Set Motion should be near it, but not below 5.",
        "The plan in words, for Preview Any.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.finish.duration import MOST_FACTOR

        return {
            "required": {
                "seconds": inputs.decimal(
                    5.0, 0.1, 3600.0, "Duration of the film in seconds. One clip of SVD-XT gives 3 to 6.", step=0.5
                ),
                "fps": inputs.decimal(
                    24.0, 1.0, 120.0, "Frames per second of the film: 24 is cinema, 25 and 30 are video.", step=1.0
                ),
                "clip_frames": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames that the model makes at once: 14 for SVD, 25 for SVD-XT. 0 takes the model's own number, "
                    "or 25 where no model is connected.",
                ),
                "interpolate": inputs.whole(
                    0,
                    0,
                    MOST_FACTOR,
                    "Steps from each frame of the model to the next; 0 chooses the fewest with which one clip fills "
                    "the film.",
                ),
                "length": inputs.choice(
                    LENGTHS,
                    "Whether the film shows every frame, which may be a little longer than asked (121 frames), or ends "
                    "exactly at the seconds (120).",
                    advanced=True,
                ),
            },
            "optional": {
                "model": inputs.socket("SVD_MODEL", "The model, which knows how many frames it makes at once.")
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
