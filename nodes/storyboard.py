"""The node that makes one film from several images.

`svd_core.storyboard` is imported on first use, because ComfyUI imports every pack at start-up.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..svd_core.pictures import open_picture
from ..svd_core.pipelines.settings import SETTINGS, STEERED_BUCKET, AnimateSettings
from .host import comfy as host
from .host.paths import readable
from .host.preview import ClipPreview, played, shown
from .shared import inputs
from .shared.model import LoadedModel

if TYPE_CHECKING:
    from ..svd_core.storyboard import Panel
    from ..svd_core.storyboard.film import Film

CSV = "seconds,move,transition\n2,zoom in 1.1,cut\n2,pan right 0.1,cross-fade"


class SVDReelStoryboard:
    """Make a film from panels."""

    DISPLAY_NAME = "Film a Storyboard (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Makes a clip of every panel and joins them into one film with cuts and cross-fades: an animatic from a "
        "batch of images, or from a table with seconds, camera move, seed and transition for each panel. The film "
        "lasts exactly the sum of the seconds. For long films, python -m svd_core storyboard writes frame by frame "
        "to the file."
    )
    SEARCH_ALIASES = ["animatic", "panels", "film", "slideshow", "cross-fade", "shot list", "contact sheet"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "STRING", "FLOAT", "STRING")
    RETURN_NAMES = ("film", "sheet", "timing", "fps", "csv")
    OUTPUT_TOOLTIPS = (
        "All frames of the film, for Create Video.",
        "The contact sheet: one frame of every panel with its time and move, for Preview Image.",
        "The timing table as text, for Preview Any.",
        "Frame rate of the film, for Create Video.",
        "The timing table as CSV, for spreadsheets.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.storyboard import LONGER
        from ..svd_core.storyboard.film import FADE

        return {
            "required": {
                "model": inputs.MODEL,
                "panels": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "The panels as CSV or JSON, one row each, with any of the columns image, seconds, "
                        "move, strength, mode, bucket, seed, transition, fade and title, and any setting of the "
                        f"command animate, such as {CSV!r}. image is the "
                        "number of an image in the batch or a file name in ComfyUI's input folder; without it, rows "
                        "follow the batch. Leave it empty for one panel per image.",
                    },
                ),
                "seconds": inputs.decimal(
                    0.0,
                    0.0,
                    3600.0,
                    "Duration of panels whose row does not set one. 0 uses the model's own clip length, such as 2 s "
                    "for 14 frames at 7 fps.",
                ),
                "move": inputs.text(
                    "",
                    'Camera move of panels whose row does not set one, in words: "zoom in 1.1 ease", "pan right '
                    '0.1". Leave it empty for a free camera.',
                ),
                "transition": inputs.choice(
                    ("cut", "cross-fade"),
                    "Transition at the start of panels whose row does not set one. The first panel has none.",
                ),
                "fade": inputs.decimal(
                    FADE, 0.0, 60.0, "Length of a cross-fade in seconds. It overlaps the panels and adds no time."
                ),
                "motion_bucket_id": inputs.MOTION_BUCKET,
                "fps": inputs.FPS,
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "steps": inputs.whole(
                    0, 0, 1000, "Sampling steps. 0 uses the model's own number; 8 to 10 are enough for a first draft."
                ),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How images of another aspect ratio fill the film. crop cuts off their sides. pad keeps all of "
                    "them between black borders. stretch distorts them.",
                ),
                "seed": inputs.whole(
                    SETTINGS["seed"].default,
                    0,
                    inputs.MAX_SEED,
                    "Seed of the noise for panels whose row does not set one. All of them use the same seed, so "
                    "inserting a panel changes no other.",
                    control_after_generate=True,
                ),
            },
            "optional": {
                "images": inputs.socket("IMAGE", "The images of the panels, as a batch in order."),
                "longer": inputs.choice(
                    LONGER,
                    "How to fill panels longer than the model's own clip. windows samples all frames in overlapping "
                    "windows. extend continues from the end of the clip. slower repeats the model's own frames.",
                    advanced=True,
                ),
                "film_fps": inputs.decimal(
                    0.0,
                    0.0,
                    120.0,
                    "Frame rate of the film. 0 uses fps, the rate for which the motion is made.",
                    step=1.0,
                    advanced=True,
                ),
                "augmentation_level": inputs.decimal(
                    SETTINGS["augmentation"].default,
                    0.0,
                    10.0,
                    inputs.AUGMENTATION[1]["tooltip"],
                    step=0.01,
                    advanced=True,
                ),
                "camera_strength": inputs.CAMERA_STRENGTH,
                "camera_mode": inputs.CAMERA_MODE,
                "camera_bucket_id": inputs.whole(
                    STEERED_BUCKET,
                    -1,
                    1023,
                    "Motion bucket of panels with a camera move whose row does not set one. "
                    f"{STEERED_BUCKET} follows best. -1 uses motion_bucket_id.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        panels: str,
        seconds: float,
        move: str,
        transition: str,
        fade: float,
        motion_bucket_id: int,
        fps: int,
        width: int,
        height: int,
        steps: int,
        fit: str,
        seed: int,
        images: Tensor | None = None,
        longer: str = "windows",
        film_fps: float = 0.0,
        augmentation_level: float = 0.02,
        camera_strength: float = 1.0,
        camera_mode: str = AnimateSettings.camera_mode,
        camera_bucket_id: int = STEERED_BUCKET,
    ) -> tuple:
        from ..svd_core.storyboard import Panel, draw_contact_sheet
        from ..svd_core.storyboard.film import plan_film
        from ..svd_core.storyboard.panels import parse_text

        settings = AnimateSettings(
            width=width or None,
            height=height or None,
            steps=steps or None,
            motion_bucket=motion_bucket_id,
            fps=fps,
            augmentation=augmentation_level,
            camera_strength=camera_strength,
            camera_mode=camera_mode,
            seed=seed,
            fit=fit,
        )
        board = parse_text(panels) or tuple(
            Panel(row=f"panel {n + 1}") for n in range(0 if images is None else len(images))
        )
        if not board:
            raise ValueError("there is nothing to film; connect images, or fill in panels with names of pictures")
        pictures = [_picture(panel, number, images) for number, panel in enumerate(board)]
        board = tuple(panel.located(partial(_readable, panel.row)) for panel in board)
        defaults = Panel(seconds=seconds or None, move=move, transition=transition, fade=fade, row="the widgets")
        bucket = camera_bucket_id if camera_bucket_id >= 0 else motion_bucket_id
        board = tuple(with_bucket(panel, move, bucket) for panel in board)
        film = plan_film(board, settings, model.config, fps=film_fps or None, longer=longer, defaults=defaults)
        frames, seen = _make(model, pictures, film)
        page = draw_contact_sheet(film.timing, seen)
        frames, page = (part.to(host.output_device(), host.output_dtype()) for part in (frames, page))
        result = (frames, page, film.timing.text(), float(film.timing.fps), film.timing.to_csv())
        return shown(result, played(frames, float(film.timing.fps)))


def with_bucket(panel: "Panel", move: str, bucket: float) -> "Panel":
    """Return the panel with `bucket` if it has a camera move, of its own or `move`, but no bucket."""
    own = move if panel.move is None else panel.move
    return replace(panel, bucket=bucket) if own not in ("", "none") and panel.bucket is None else panel


def _readable(row: str, name: str) -> Path:
    """Return the path of a file in ComfyUI's input folder that a panel names."""
    return readable(name, f"{row}: file")


def _picture(panel: "Panel", number: int, images: Tensor | None) -> Tensor:
    """Return the picture [1, H, W, C] of a panel: from the batch by its number, or from the host's input folder."""
    count = 0 if images is None else len(images)
    if not panel.image or panel.image.isdecimal():
        place = int(panel.image or number + 1)
        if not 1 <= place <= count:
            raise ValueError(
                f"{panel.row} takes picture {place}, but the batch holds {count}; connect more, or write another "
                "number or a file name under image"
            )
        return images[place - 1 : place]
    path = readable(panel.image, f"{panel.row}: picture")
    if not path.is_file():
        raise FileNotFoundError(
            f"{panel.row}: picture {panel.image} is not in ComfyUI's input folder; put it there, or connect images"
        )
    try:
        return open_picture(path)
    except ValueError as error:
        raise ValueError(f"{panel.row}: {error}") from None


def _make(model: LoadedModel, pictures: list[Tensor], film: "Film") -> tuple[Tensor, list[Tensor]]:
    """Return the film [T, H, W, 3], and one frame of every panel for the sheet."""
    from ..svd_core.storyboard import film_frames
    from ..svd_core.storyboard.film import sheet_frame, sheet_picture

    first = film.settings[0]
    whole = torch.empty(film.timing.frames, first.height, first.width, 3)
    shown: list[Tensor] = []
    progress = host.Progress(preview=ClipPreview(model.colours, film.settings[0].fps))

    def on_frame(panel: int, index: int, frame: Tensor) -> None:
        if index == sheet_frame(film.timing.shots[panel].frames):
            shown.append(sheet_picture(frame))

    frames = film_frames(model, pictures.__getitem__, film, on_step=progress.step, on_frame=on_frame)
    for index, frame in enumerate(frames):
        whole[index] = frame
    return whole, shown


NODES = [SVDReelStoryboard]
