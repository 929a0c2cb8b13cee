"""The node that makes one film of several pictures.

What films panels is imported when it is asked for: the host imports every pack when it starts.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..svd_core.pictures import open_picture
from ..svd_core.pipelines.clip import AnimateSettings
from ..svd_core.sampling.solvers import Step
from .host import comfy as host
from .shared import inputs
from .shared.model import CoreModel, LoadedModel

if TYPE_CHECKING:
    from ..svd_core.storyboard import Panel
    from ..svd_core.storyboard.film import Film

CSV = "seconds,move,transition\n2,zoom in 1.1,cut\n2,pan right 0.1,cross-fade"


class SVDReelStoryboard:
    """The storyboard."""

    DISPLAY_NAME = "Film a Storyboard (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Makes a clip of every panel and joins them to one film by cuts and cross-fades: an animatic of a batch of "
        "pictures, or of a table with seconds, camera move, seed and transition for each. The film lasts exactly the "
        "sum of the seconds. For long films python -m svd_core storyboard writes to the file without holding frames."
    )
    SEARCH_ALIASES = ["animatic", "panels", "film", "slideshow", "cross-fade", "shot list", "contact sheet"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "STRING", "FLOAT", "STRING")
    RETURN_NAMES = ("film", "sheet", "timing", "fps", "csv")
    OUTPUT_TOOLTIPS = (
        "All frames of the film, for Create Video.",
        "A frame of every panel with its time and move, for Preview Image.",
        "The timing table as text, for Preview Any.",
        "Frames per second of the film, for Create Video.",
        "The timing table for spreadsheets.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.storyboard import LONGER

        return {
            "required": {
                "model": inputs.MODEL,
                "panels": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "A table as CSV or JSON with any of the columns image, seconds, move, bucket, seed, "
                        f"transition, fade, title; a row for each panel, such as {CSV!r}. image is the number of a "
                        "picture in the batch or the name of a file in ComfyUI's input folder; without it rows follow "
                        "the batch. Empty: a panel for each picture.",
                    },
                ),
                "seconds": inputs.decimal(
                    0.0,
                    0.0,
                    3600.0,
                    "Time of a panel whose row says none. 0 takes the model's own clip, such as 2 s of 14 frames at 7 "
                    "fps.",
                ),
                "move": inputs.text(
                    "",
                    'Camera move of a panel whose row says none, in words: "zoom in 1.1 ease", "pan right 0.1". Empty '
                    "leaves the camera free.",
                ),
                "transition": inputs.choice(
                    ("cut", "cross-fade"), "How a panel begins whose row does not say so; the first just begins."
                ),
                "fade": inputs.decimal(0.5, 0.0, 60.0, "Seconds of a cross-fade; it takes no time of its own."),
                "motion_bucket_id": inputs.MOTION_BUCKET,
                "fps": inputs.FPS,
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "steps": inputs.whole(
                    0, 0, 1000, "Sampling steps. 0 takes the model's own number; 8 to 10 do for a first draft."
                ),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How pictures of another aspect fill the film. crop: cut their sides off. pad: keep all of them "
                    "between black borders. stretch: distort them.",
                ),
                "seed": inputs.whole(
                    23,
                    0,
                    inputs.MAX_SEED,
                    "Number that the noise of every panel is drawn from whose row says none, so that a panel put in "
                    "changes no other.",
                    control_after_generate=True,
                ),
            },
            "optional": {
                "images": inputs.socket("IMAGE", "The pictures, one after the other in a batch."),
                "longer": inputs.choice(
                    LONGER,
                    "Panels longer than the model's own clip. windows: all frames in overlapping windows. extend: goes "
                    "on from the end of the clip. slower: the model's own frames, each shown several times.",
                    advanced=True,
                ),
                "film_fps": inputs.decimal(
                    0.0,
                    0.0,
                    120.0,
                    "Frames per second of the film. 0 is as fps, which is the number that the motion is made for.",
                    step=1.0,
                    advanced=True,
                ),
                "augmentation_level": inputs.decimal(
                    0.02, 0.0, 10.0, inputs.AUGMENTATION[1]["tooltip"], step=0.01, advanced=True
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
            seed=seed,
            fit=fit,
        )
        board = parse_text(panels) or tuple(
            Panel(row=f"panel {n + 1}") for n in range(0 if images is None else len(images))
        )
        if not board:
            raise ValueError("there is nothing to film; connect images, or fill in panels with names of pictures")
        pictures = [_picture(panel, number, images) for number, panel in enumerate(board)]
        defaults = Panel(seconds=seconds or None, move=move, transition=transition, fade=fade, row="the widgets")
        film = plan_film(board, settings, model.config, fps=film_fps or None, longer=longer, defaults=defaults)
        frames, shown = _make(CoreModel(model), pictures, film)
        page = draw_contact_sheet(film.timing, shown)
        frames, page = (part.to(host.output_device(), host.output_dtype()) for part in (frames, page))
        return (frames, page, film.timing.text(), float(film.timing.fps), film.timing.to_csv())


def _picture(panel: "Panel", number: int, images: Tensor | None) -> Tensor:
    """The picture [1, H, W, C] of a panel: of the batch by its place or number, or from the host's input folder."""
    count = 0 if images is None else len(images)
    if not panel.image or panel.image.isdecimal():
        place = int(panel.image or number + 1)
        if not 1 <= place <= count:
            raise ValueError(
                f"{panel.row} takes picture {place}, but the batch holds {count}; connect more, or write another "
                "number or a file name under image"
            )
        return images[place - 1 : place]
    folder = host.input_folder().resolve()
    path = (folder / panel.image).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise FileNotFoundError(
            f"{panel.row}: picture {panel.image} is not in ComfyUI's input folder; put it there, or connect images"
        )
    try:
        return open_picture(path)
    except ValueError as error:
        raise ValueError(f"{panel.row}: {error}") from None


def _make(core: CoreModel, pictures: list[Tensor], film: "Film") -> tuple[Tensor, list[Tensor]]:
    """The film [T, H, W, 3], and a frame of every panel for the sheet."""
    from ..svd_core.storyboard import film_frames
    from ..svd_core.storyboard.film import sheet_frame

    first = film.settings[0]
    whole = torch.empty(film.timing.frames, first.height, first.width, 3)
    shown: list[Tensor] = []
    progress = host.Progress(1, preview_device=core.device)

    def on_step(step: Step) -> None:
        progress.update(step.index + 1, step.denoised, total=step.steps)

    def on_frame(panel: int, index: int, frame: Tensor) -> None:
        if index == sheet_frame(film.timing.shots[panel].frames):
            shown.append(frame.clone())

    frames = film_frames(core, pictures.__getitem__, film, on_step=on_step, on_frame=on_frame)
    for index, frame in enumerate(frames):
        whole[index] = frame
    return whole, shown


NODES = [SVDReelStoryboard]
