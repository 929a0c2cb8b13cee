"""Join clips to one film with cuts and cross-fades, and draw its contact sheet.

Frames are yielded one by one. At most the clip of one shot and the last frames of the one before are in memory.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Union

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..charts import FAINT, INK, LINE, PAPER, font, shorten
from ..pictures.sheets import as_image, small_picture
from ..pipelines.settings import AnimateSettings
from ..pipelines.steered import check_steering, gives_motion, open_steering
from ..sampling.solvers import Step
from ..video.clip import parse_fps
from .clips import ClipStore, MemoryStore, make_clip, shot_key, shot_settings
from .panels import Panel, check_panel
from .timing import Timing, plan_timing

if TYPE_CHECKING:
    from ..model.model import SVDModel

log = logging.getLogger("svd_reel")

FADE = 0.5  # seconds of a cross-fade without a length of its own
# The contact sheet, in pixels: outer margin, gap between cells, longer side of a frame, and two font sizes.
MARGIN, GAP, PICTURE, TITLE, TEXT = 20, 16, 256, 20, 14
LEAST_CELL, LEAST_SHEET = 176, 480  # widths that leave room for the text


@dataclass(frozen=True)
class Film:
    """A planned film: its timing, and the complete, checked settings of each shot's clip."""

    timing: Timing
    settings: tuple[AnimateSettings, ...]


def plan_film(
    panels: Sequence[Panel],
    settings: AnimateSettings,
    config: object,
    *,
    fps: float | Fraction | None = None,
    longer: str = "windows",
    defaults: Panel | None = None,
) -> Film:
    """Plan the film of `panels` at `fps` frames per second (None: `settings.fps`, the rate of the motion).

    settings: shared by all panels. config: that of the model. defaults: values for what panels leave open; what these
    leave open too comes from `settings`. Panels without a seed share one, so that inserting a panel changes no other.
    Raises ValueError with the panel's row for invalid values.
    """
    own = settings.resolve(config)
    usual = Panel(
        move=own.camera,
        strength=own.camera_strength,
        mode=own.camera_mode,
        bucket=settings.motion_bucket,
        seed=own.seed,
        transition="cut",
        fade=FADE,
    )
    usual = check_panel(defaults or Panel()).filled(usual)
    filled = [check_panel(panel.filled(usual)) for panel in panels]
    for panel, whole in zip(panels, filled, strict=True):
        if panel.fade and whole.transition == "cut":
            log.warning("%s: fade %g s has no effect on a cut; write cross-fade as transition", panel.row, panel.fade)
    if not filled:
        raise ValueError("the storyboard has 0 panels; give at least 1")
    timing = plan_timing(filled, parse_fps(own.fps if fps is None else fps), own.frames)
    shots, resolved = [], []
    for shot in timing.shots:
        try:
            steered = gives_motion(shot.panel.steering)
            found = shot_settings(replace(settings, camera=""), shot, own.frames, longer)
            found = found.resolve(config, steered=steered)
            check_steering(open_steering(shot.panel.steering), found)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{shot.panel.row}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{shot.panel.row}: {error}") from None
        resolved.append(found)
        shots.append(replace(shot, panel=replace(shot.panel, bucket=found.motion_bucket)))
    return Film(replace(timing, shots=tuple(shots)), tuple(resolved))


def film_frames(
    model: Union["SVDModel", None],
    pictures: Callable[[int], Tensor],
    film: Film,
    *,
    store: ClipStore | MemoryStore | None = None,
    model_name: str = "",
    on_step: Callable[[Step], None] | None = None,
    on_clip: Callable[[int, bool], None] | None = None,
    on_frame: Callable[[int, int, Tensor], None] | None = None,
) -> Iterator[Tensor]:
    """Yield the frames [H, W, 3] of a film in 0..1; each clip is generated when it is reached.

    model: may be None if `store` holds every clip. pictures: returns the picture [1, H, W, C] of panel i, counted from
    0. store: finished clips are read from it. model_name: identifies the model in the store.
    on_step: gets the steps of all clips, counted over the film. on_clip(panel, generated): called for each clip.
    on_frame(panel, index, frame): called for each frame before it is faded, for a contact sheet.
    """
    store = store or MemoryStore()
    offsets = [0]
    for settings in film.settings:
        offsets.append(offsets[-1] + clip_steps(settings))
    before: list[Tensor] = []
    for number, (shot, settings) in enumerate(zip(film.timing.shots, film.settings, strict=True)):
        picture, generated = pictures(number), []

        def make(number: int = number, picture: Tensor = picture, generated: list = generated) -> Tensor:
            generated.append(True)
            report = _over_film(on_step, offsets[number], offsets[-1])
            return make_clip(model, picture, film.timing.shots[number], film.settings[number], report)

        clip = store.frames(shot_key(picture, shot, settings, model_name), make)
        if on_clip is not None:
            on_clip(number, bool(generated))
        for index in range(shot.frames):
            frame = clip[index]
            if on_frame is not None:
                on_frame(number, index, frame)
            if index < shot.fade:
                frame = torch.lerp(before[index], frame, fade_share(index, shot.fade))
            yield frame
        before = [clip[index].clone() for index in range(shot.frames, shot.clip_frames)]


def fade_share(index: int, frames: int) -> float:
    """Return the share of the new panel in frame `index` of a cross-fade of `frames`: evenly spaced, never 0 or 1."""
    return (index + 1) / (frames + 1)


def clip_steps(settings: AnimateSettings) -> int:
    """Return the number of sampling steps of a clip, including those of its extension."""
    chunks = math.ceil(settings.extend / (settings.frames - settings.extend_overlap)) if settings.extend else 0
    return settings.steps * (1 + chunks)


def _over_film(on_step: Callable[[Step], None] | None, done: int, total: int) -> Callable[[Step], None] | None:
    """Return `on_step` for a clip that begins after `done` of the film's `total` steps."""
    if on_step is None:
        return None
    ticks = iter(range(done, total))
    return lambda step: on_step(step._replace(index=next(ticks, total - 1), steps=total))


def sheet_frame(frames: int) -> int:
    """Return the index of the frame that represents a shot of `frames` frames: the middle one."""
    return frames // 2


def sheet_picture(frame: Tensor) -> Tensor:
    """Return a frame [H, W, 3] in 0..1 at its size on the contact sheet, to be kept instead of it."""
    return as_image(small_picture(frame, *_sheet_size(frame)))[0]


def _sheet_size(frame: Tensor) -> tuple[int, int]:
    """Return the width and height of a frame [H, W, 3] on the contact sheet."""
    height, width = frame.shape[:2]
    scale = PICTURE / max(height, width)
    return max(16, round(width * scale)), max(16, round(height * scale))


def draw_contact_sheet(timing: Timing, shown: list[Tensor], title: str = "Storyboard") -> Tensor:
    """Return the contact sheet [1, H, W, 3] in 0..1, about square, with one frame [H, W, 3] of each panel.

    shown: frames of any one size, such as those of `sheet_picture`, which make the same sheet.
    """
    small = _sheet_size(shown[0])
    cell_width = max(small[0], LEAST_CELL)
    cell_height = small[1] + 3 * (TEXT + 4) + 6
    columns = min(len(shown), max(1, math.ceil(math.sqrt(len(shown) * cell_height / cell_width * 1.4))))
    rows = math.ceil(len(shown) / columns)
    sheet_width = max(2 * MARGIN + columns * (cell_width + GAP) - GAP, LEAST_SHEET)
    top = MARGIN + TITLE + 14
    sheet = Image.new("RGB", (sheet_width, top + rows * (cell_height + GAP) - GAP + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    length = f"{timing.seconds(timing.frames):g} s, {timing.frames} frames at {float(timing.fps):g} fps"
    head = shorten(pen, f"{title}: {len(shown)} panels, {length}", sheet_width - 2 * MARGIN, TITLE)
    pen.text((MARGIN, MARGIN - 4), head, fill=INK, font=font(TITLE))
    for number, (row, frame) in enumerate(zip(timing.rows(), shown, strict=True)):
        x = MARGIN + number % columns * (cell_width + GAP)
        y = top + number // columns * (cell_height + GAP)
        sheet.paste(small_picture(frame, *small), (x, y))
        pen.rectangle((x, y, x + small[0] - 1, y + small[1] - 1), outline=LINE)
        fade = f"cross-fade {row['fade_frames']}" if row["fade_frames"] else "cut"
        lines = (
            (f"{row['panel']}. {row['title']}", INK),
            (f"{row['start']:.2f} to {row['end']:.2f} s, {fade}", FAINT),
            (f"{row['move'] or 'free'}, bucket {row['bucket']}, seed {row['seed']}", FAINT),
        )
        for line, (text, colour) in enumerate(lines):
            position = (x, y + small[1] + 4 + line * (TEXT + 4))
            pen.text(position, shorten(pen, text, cell_width, TEXT), fill=colour, font=font(TEXT))
    return as_image(sheet)
