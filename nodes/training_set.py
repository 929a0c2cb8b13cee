"""The node that says what to train on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .host import comfy as host
from .shared import inputs

if TYPE_CHECKING:
    from ..svd_core.training.data.sources import Source

CATEGORY = f"{inputs.CATEGORY}/Training"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What travels on the SVD_TRAINING_SET socket: where clips come from and how they are cut and told.

    plan: what of ClipPlan the widgets say. bucket: of all clips, None for measured ones.
    """

    sources: "list[Source]"
    move: str = ""
    bucket: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line."""
        camera = f", camera {self.move}" if self.move else ""
        return f"{len(self.sources)} source{'s' * (len(self.sources) != 1)}{camera}"


class SVDReelTrainingSet:
    """Clips to train on."""

    DISPLAY_NAME = "Set up Training Clips (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Says what to train on: a folder of videos, folders of frames, the frames of a loaded video, or photographs "
        "over which a camera moves. Clips are cut at scene changes, scaled to the size of training and told by their "
        "measured motion; Train SVD LoRA does that once and keeps it."
    )
    SEARCH_ALIASES = ["dataset", "training data", "video dataset", "finetune", "camera lora", "lora dataset"]
    RETURN_TYPES = ("SVD_TRAINING_SET", "STRING")
    RETURN_NAMES = ("training_set", "text")
    OUTPUT_TOOLTIPS = ("For Train SVD LoRA.", "What was found, in words.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "folder": inputs.text(
                    "",
                    "Folder on ComfyUI's machine with videos, with folders of frames, or with photographs (then write "
                    "a camera move). A single video works too. A path without a slash at the start is inside "
                    "ComfyUI's input folder. Empty where frames are connected.",
                ),
                "camera_move": inputs.text(
                    "",
                    "Makes clips of photographs: what the camera does, such as pan left, tilt up, zoom in or roll cw, "
                    "or several with commas. Speeds are drawn at random. Empty for films, which move by themselves.",
                ),
                "motion_bucket_id": inputs.decimal(
                    -1.0,
                    -1.0,
                    255.0,
                    "Motion bucket that all clips are told by. -1 measures each by optical flow, or by the speed of "
                    "the camera, which keeps the bucket a dial for speed.",
                    step=1.0,
                ),
            },
            "optional": {
                "images": inputs.socket(
                    "IMAGE",
                    "The frames of one film in order, such as those of a loaded video; or photographs, if there is a "
                    "camera move. May come beside a folder.",
                ),
                "images_fps": inputs.decimal(
                    0.0, 0.0, 240.0, "Frames per second of the connected frames. 0: they are taken to be at fps."
                ),
                "fps": inputs.decimal(
                    0.0,
                    0.0,
                    60.0,
                    "Frames per second of the clips, at most those of the film. 0 takes every second, third ... frame, "
                    "so that it comes near 7, what SVD was made for.",
                    advanced=True,
                ),
                "width": inputs.whole(
                    0,
                    0,
                    2048,
                    "Width of the clips in pixels, a multiple of 8. 0 takes 576 (nano: its own): what is learned there "
                    "holds at larger sizes, at a fraction of the memory.",
                    step=8,
                    advanced=True,
                ),
                "height": inputs.whole(
                    0,
                    0,
                    2048,
                    "Height of the clips in pixels, a multiple of 8. 0 takes 320 (nano: its own).",
                    step=8,
                    advanced=True,
                ),
                "frames": inputs.whole(
                    0, 0, 128, "Frames of a clip. 0 takes the model's own, at most 14.", advanced=True
                ),
                "stride": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames from the start of a clip to that of the next. 0: clips do not overlap. Smaller makes more "
                    "clips of little footage.",
                    advanced=True,
                ),
                "least_motion": inputs.decimal(
                    0.3,
                    0.0,
                    20.0,
                    "Clips slower than this are left out, in per cent of the picture's diagonal per second. 0 keeps "
                    "all, to train stillness.",
                    advanced=True,
                ),
                "clips_per_picture": inputs.whole(
                    0, 0, 1000, "Clips of each photograph. 0: about 64 in all, at least 4 of each.", advanced=True
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
        # Imported when used: the host imports every pack when it starts, and few starts train.
        from ..svd_core.training.data.sources import FrameBatch, find_sources, stills_of_batch
        from ..svd_core.training.data.stills import check_move

        move = camera_move.strip()
        if move:
            check_move(move, frames or 8)
        sources: list = []
        if folder.strip():
            path = Path(folder.strip()).expanduser()
            path = path if path.is_absolute() else host.input_folder() / path
            sources += find_sources(path, move=move, stills_count=clips_per_picture, frame_fps=images_fps)
        if images is not None and move:
            sources += stills_of_batch(images, move, clips_per_picture)
        elif images is not None:
            sources.append(FrameBatch(images, fps=images_fps))
        if not sources:
            raise ValueError(
                "there is nothing to train on; name a folder of videos, or connect frames or, with a camera move, "
                "photographs"
            )
        plan = {"width": width, "height": height, "frames": frames, "fps": fps, "stride": stride}
        plan = {name: value for name, value in plan.items() if value} | {"least_motion": least_motion}
        bucket = motion_bucket_id if motion_bucket_id >= 0 else None
        found = TrainingSet(sources, move, bucket, plan)
        return (found, found.text)


NODES = [SVDReelTrainingSet]
