"""The node that selects the training data."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .host.paths import readable
from .shared import inputs

if TYPE_CHECKING:
    from ..svd_core.training.data.sources import Source

CATEGORY = f"{inputs.CATEGORY}/Training"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The value of the SVD_TRAINING_SET socket: the sources of clips, and how they are cut and labelled.

    plan: the fields of ClipPlan that the widgets set. bucket: motion bucket of all clips; None measures each.
    """

    sources: "list[Source]"
    move: str = ""
    bucket: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return a summary in one line."""
        camera = f", camera {self.move}" if self.move else ""
        return f"{len(self.sources)} source{'s' * (len(self.sources) != 1)}{camera}"


class SVDReelTrainingSet:
    """Select clips to train on."""

    DISPLAY_NAME = "Set up Training Clips (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Chooses the training data: a folder of videos, folders of frames, the frames of a loaded video, or "
        "photographs over which a camera moves. Clips are cut at scene changes, scaled to the training size and "
        "labelled with their measured motion. Train SVD LoRA does this once and caches the result."
    )
    SEARCH_ALIASES = ["dataset", "training data", "video dataset", "finetune", "camera lora", "lora dataset"]
    RETURN_TYPES = ("SVD_TRAINING_SET", "STRING")
    RETURN_NAMES = ("training_set", "text")
    OUTPUT_TOOLTIPS = ("The training data, for Train SVD LoRA.", "What was found, in words.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.training.data.cutting import ClipPlan

        return {
            "required": {
                "folder": inputs.text(
                    "",
                    "A folder in ComfyUI's input folder with videos, folders of frames, or photographs (then set a "
                    "camera move). A single video works, too. Other folders must be listed in allowed_folders.txt "
                    "beside this pack. Leave it empty if frames are connected.",
                ),
                "camera_move": inputs.text(
                    "",
                    "Turns photographs into clips with this camera move, such as pan left, tilt up, zoom in or roll "
                    "cw; separate several with commas. Speeds are random. Leave it empty for videos, which move by "
                    "themselves.",
                ),
                "motion_bucket_id": inputs.decimal(
                    -1.0,
                    -1.0,
                    255.0,
                    "Motion bucket label of all clips. -1 measures each clip by optical flow, or by the speed of the "
                    "camera move, so that the bucket still controls speed.",
                    step=1.0,
                ),
            },
            "optional": {
                "images": inputs.socket(
                    "IMAGE",
                    "The frames of one video in order; or photographs, if a camera move is set. Can be combined with "
                    "a folder.",
                ),
                "images_fps": inputs.decimal(
                    0.0, 0.0, 240.0, "Frame rate of the connected frames. 0 means they already have the rate of fps."
                ),
                "fps": inputs.decimal(
                    0.0,
                    0.0,
                    60.0,
                    "Frame rate of the clips, at most that of the video. 0 takes every second, third ... frame to "
                    "come near 7, for which SVD was made.",
                    advanced=True,
                ),
                "width": inputs.whole(
                    0,
                    0,
                    2048,
                    "Width of the clips in pixels, a multiple of 8. 0 uses 576 (nano: its own). What is learned "
                    "there also works at larger sizes, at a fraction of the memory.",
                    step=8,
                    advanced=True,
                ),
                "height": inputs.whole(
                    0,
                    0,
                    2048,
                    "Height of the clips in pixels, a multiple of 8. 0 uses 320 (nano: its own).",
                    step=8,
                    advanced=True,
                ),
                "frames": inputs.whole(
                    0, 0, 128, "Frames per clip. 0 uses the model's own number, at most 14.", advanced=True
                ),
                "stride": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames from the start of one clip to the start of the next. 0 means no overlap. Lower values "
                    "make more clips from little footage.",
                    advanced=True,
                ),
                "least_motion": inputs.decimal(
                    ClipPlan.least_motion,
                    0.0,
                    20.0,
                    "Slowest motion that is kept, in per cent of the image diagonal per second. 0 keeps all clips, "
                    "to train stillness.",
                    advanced=True,
                ),
                "clips_per_picture": inputs.whole(
                    0,
                    0,
                    1000,
                    "Clips made from each photograph. 0 makes about 64 in total, at least 4 from each.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        folder: str,
        camera_move: str,
        motion_bucket_id: float,
        images: Tensor | None = None,
        images_fps: float = 0.0,
        fps: float = 0.0,
        width: int = 0,
        height: int = 0,
        frames: int = 0,
        stride: int = 0,
        least_motion: float = 0.3,
        clips_per_picture: int = 0,
    ) -> tuple:
        # Imported on first use, because ComfyUI imports every pack at start-up.
        from ..svd_core.training.data.sources import FrameBatch, find_sources, stills_of_batch
        from ..svd_core.training.data.stills import check_move

        move = camera_move.strip()
        if move:
            check_move(move, frames or 8)
        sources: list = []
        if folder.strip():
            path = readable(folder, "folder")
            sources += find_sources(path, move=move, stills_count=clips_per_picture, frame_fps=images_fps)
        if images is not None and move:
            sources += stills_of_batch(images, move, clips_per_picture)
        elif images is not None:
            sources.append(FrameBatch(images, fps=images_fps))
        if not sources:
            raise ValueError(
                "no training data given; set folder to a folder of videos, or connect the frames of a video, or "
                "connect photographs and set camera_move"
            )
        plan = {"width": width, "height": height, "frames": frames, "fps": fps, "stride": stride}
        plan = {name: value for name, value in plan.items() if value} | {"least_motion": least_motion}
        bucket = motion_bucket_id if motion_bucket_id >= 0 else None
        found = TrainingSet(sources, move, bucket, plan)
        return (found, found.text)


NODES = [SVDReelTrainingSet]
