"""Joins clips to a film: cuts and cross-fades, one frame after the other, never more than two clips at hand."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from ..charts import FAINT, INK, LINE, PAPER, font, shorten
from ..pipelines.clip import AnimateSettings
from ..sampling.solvers import Step
from ..video.clip import parse_fps
from .clips import ClipStore, MemoryStore, make_clip, shot_key, shot_settings
from .panels import Panel, check_panel
from .timing import Timing, plan_timing

if TYPE_CHECKING:
    from ..model.model import SVDModel

from PIL import Image, ImageDraw

from ..pictures.sheets import as_image, small_picture

log = logging.getLogger("svd_reel")
FADE = 0.5  # seconds of a cross-fade that says no length


@dataclass(frozen=True)
class Film:
    """Everything that decides a film: its timing, and for each shot the settings of its clip, complete and checked."""

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
    """Plan the film of `panels` at `fps` frames per second (None: those of the motion, `settings.fps`).

    `settings` hold for every panel, `config` is the model's; `defaults` is what panels leave open; what that leaves
    open too comes from the settings. A panel without a seed of its own has the film's, so that a panel put in changes
    no other. ValueError naming the row for whatever is illegal.
    """
    own = settings.resolve(config)
    usual = Panel(move=own.camera, bucket=own.motion_bucket, seed=own.seed, transition="cut", fade=FADE)
    usual = check_panel(defaults or Panel()).filled(usual)
    filled = [check_panel(panel.filled(usual)) for panel in panels]
    for panel, whole in zip(panels, filled, strict=True):
        if panel.fade and whole.transition == "cut":
            log.warning("%s: fade %g s has no effect on a cut; write cross-fade as transition", panel.row, panel.fade)
    if not filled:
        raise ValueError("the storyboard has 0 panels; give at least 1")
    timing = plan_timing(filled, parse_fps(own.fps if fps is None else fps), own.frames)
    made = []
    for shot in timing.shots:
        try:
            made.append(shot_settings(replace(settings, camera=""), shot, own.frames, longer).resolve(config))
        except ValueError as error:
            raise ValueError(f"{shot.panel.row}: {error}") from None
    return Film(timing, tuple(made))


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
    """Yield the frames [H, W, 3] of a film in 0..1, making each clip when it is reached.

    `pictures(i)` gives the picture of panel i, counted from 0, [1, H, W, C]. With a ClipStore finished clips are read;
    `model` may be None where all are. `on_step` counts over all clips, made or read; `on_clip(panel, made)` is called
    when one is at hand; `on_frame(panel, index, frame)` gets every frame before it is faded, for a contact sheet.
    """
    store = store or MemoryStore()
    offsets = [0]
    for settings in film.settings:
        offsets.append(offsets[-1] + clip_steps(settings))
    before: list[Tensor] = []
    for number, (shot, settings) in enumerate(zip(film.timing.shots, film.settings, strict=True)):
        picture, made = pictures(number), []

        def make(number: int = number, picture: Tensor = picture, made: list = made) -> Tensor:
            made.append(True)
            told = _over_film(on_step, offsets[number], offsets[-1])
            return make_clip(model, picture, film.timing.shots[number], film.settings[number], told)

        clip = store.frames(shot_key(picture, shot, settings, model_name), make)
        if on_clip is not None:
            on_clip(number, bool(made))
        for index in range(shot.frames):
            frame = clip[index]
            if on_frame is not None:
                on_frame(number, index, frame)
            if index < shot.fade:
                frame = torch.lerp(before[index], frame, fade_share(index, shot.fade))
            yield frame
        before = [clip[index].clone() for index in range(shot.frames, shot.clip_frames)]


def fade_share(index: int, frames: int) -> float:
    """How much of the new panel frame `index` of a cross-fade over `frames` shows: even, never 0 nor 1."""
    return (index + 1) / (frames + 1)


def clip_steps(settings: AnimateSettings) -> int:
    """Steps that a clip reports, with those of its extension."""
    chunks = math.ceil(settings.extend / (settings.frames - settings.extend_overlap)) if settings.extend else 0
    return settings.steps * (1 + chunks)


def _over_film(on_step: Callable[[Step], None] | None, done: int, total: int) -> Callable[[Step], None] | None:
    if on_step is None:
        return None
    ticks = iter(range(done, total))
    return lambda step: on_step(step._replace(index=next(ticks, total - 1), steps=total))


MARGIN, GAP, PICTURE, TITLE, TEXT = 20, 16, 256, 20, 14


def sheet_frame(frames: int) -> int:
    """Which frame of a shot the sheet shows: the middle one."""
    return frames // 2


def draw_contact_sheet(timing: Timing, shown: list[Tensor], title: str = "Storyboard") -> Tensor:
    """The sheet [1, H, W, 3] in 0..1 of a frame [H, W, 3] for each panel, in rows that make it about square."""
    height, width = shown[0].shape[:2]
    scale = PICTURE / max(height, width)
    small = max(16, round(width * scale)), max(16, round(height * scale))
    cell_width = max(small[0], 176)
    cell_height = small[1] + 3 * (TEXT + 4) + 6
    columns = min(len(shown), max(1, math.ceil(math.sqrt(len(shown) * cell_height / cell_width * 1.4))))
    rows = math.ceil(len(shown) / columns)
    wide = max(2 * MARGIN + columns * (cell_width + GAP) - GAP, 480)
    top = MARGIN + TITLE + 14
    sheet = Image.new("RGB", (wide, top + rows * (cell_height + GAP) - GAP + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    length = f"{timing.seconds(timing.frames):g} s, {timing.frames} frames at {float(timing.fps):g} fps"
    head = shorten(pen, f"{title}: {len(shown)} panels, {length}", wide - 2 * MARGIN, TITLE)
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
            place = (x, y + small[1] + 4 + line * (TEXT + 4))
            pen.text(place, shorten(pen, text, cell_width, TEXT), fill=colour, font=font(TEXT))
    return as_image(sheet)
