"""Run a grid of quick clips, measure each, and keep the frames that the sheet shows."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Union

from torch import Tensor

from ..controls.camera.moves import parse_path
from ..pictures import as_batch
from ..pictures.sheets import spread
from ..pipelines.settings import AnimateSettings
from ..pipelines.steered import Steering, steered_clip
from ..report import ClipReport, measure
from ..sampling.controls import Control
from ..sampling.solvers import Step
from .grid import NAMES, Grid
from .scores import Aim, measured, ranking

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

    from ..model.model import SVDModel

FEW_STEPS = 8
COLUMNS = (
    ("motion_percent", "motion %", ".2f"),
    ("drift", "drift %", ".2f"),
    ("flicker", "flicker %", ".2f"),
    ("pan_x_percent", "right %", "+.2f"),
    ("pan_y_percent", "down %", "+.2f"),
    ("zoom", "zoom", ".4f"),
    ("psnr", "first dB", ".1f"),
)
"""Numbers of the table: name, heading and format. Motion and pans are per frame, in per cent of the width."""
FOLLOWED = ("followed", "followed", ".2f")
"""The column more where a camera path is asked for: the share of its moves that the clip makes, on average."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One quick clip.

    settings: the resolved ones of its `animate` call. shown: some of its frames [n, H, W, 3]. frames: their indices.
    numbers: see `scores.measured`. rank: 1 for the best.
    """

    settings: AnimateSettings
    frames: tuple[int, ...]
    shown: Tensor
    report: ClipReport
    numbers: dict[str, float | None]
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished grid of clips."""

    grid: Grid
    aim: Aim
    cells: tuple[Cell, ...]

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings of the table: those of the lists; the strength only with a camera."""
        strengths = bool(self.grid.strengths or self.cells[0].settings.camera)
        return tuple(name for name in NAMES if name != "camera_strength" or strengths)

    @property
    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """The numbers of the table, as COLUMNS."""
        return (*COLUMNS, FOLLOWED) if self.cells[0].settings.camera else COLUMNS

    @property
    def best(self) -> Cell:
        """The cell of rank 1."""
        return next(cell for cell in self.cells if cell.rank == 1)

    def text(self) -> str:
        """Return the table as text: a line per cell, and the best one."""
        rows = [
            [*(NAMES[name] for name in self.swept), *(heading for _, heading, _ in self.columns), "rank"],
            *([*_values(cell, self.swept), *_numbers(cell, self.columns), str(cell.rank)] for cell in self.cells),
        ]
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"best ({self.aim.text}): {self.best_text}"])

    @property
    def best_text(self) -> str:
        """The settings of the best cell in words."""
        values = zip(self.swept, _values(self.best, self.swept), strict=True)
        words = ", ".join(f"{NAMES[name]} {value}" for name, value in values)
        return f"{words}, motion {self.best.numbers['motion_percent']:.2f} % a frame"

    def to_json(self) -> str:
        """Return everything measured as JSON: the score, the best settings, and every cell with its numbers."""
        score = {"score": self.aim.score, "wanted_motion": self.aim.motion, "drift_limit": self.aim.drift}
        cells = [
            {**_settings(cell, self.swept), "steps": cell.settings.steps, "rank": cell.rank, **cell.numbers}
            for cell in self.cells
        ]
        return json.dumps({**score, "best": _settings(self.best, self.swept), "cells": cells}, indent=1)

    def to_csv(self) -> str:
        """Return the cells as CSV for spreadsheets, with every number in full."""
        text = io.StringIO()
        names = [*self.swept, "steps", *self.best.numbers, "rank"]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for cell in self.cells:
            settings = _settings(cell, self.swept)
            writer.writerow({**settings, "steps": cell.settings.steps, **cell.numbers, "rank": cell.rank})
        return text.getvalue()


def run_sweep(
    model: "SVDModel",
    image: Union["Image", "numpy.ndarray", Tensor],
    settings: AnimateSettings,
    grid: Grid,
    aim: Aim | None = None,
    steering: Steering | None = None,
    *,
    controls: Sequence[Control] = (),
    shown: int = 3,
    on_step: Callable[[Step], None] | None = None,
    steps_after: int = 0,
) -> Sweep:
    """Generate and measure the clip of every cell of `grid`: that of `steered_clip(model, image, settings, steering)`.

    image: one picture, as for `animate`. settings, steering and controls: shared by all cells; the default of `steps`
    is FEW_STEPS.
    shown: number of frames kept of each clip. on_step: called after each step, counted over all cells and `steps_after`
    more; may raise to stop. Raises ValueError for invalid settings before anything is generated.
    """
    aim = aim or Aim()
    pictures = as_batch(image, settings.background)
    if len(pictures) > 1:
        raise ValueError(f"the lab takes 1 picture (got {len(pictures)}); choose one of the batch")
    quick = replace(settings, steps=settings.steps or FEW_STEPS)
    plan = [cell.resolve(model.config) for cell in grid.cells(quick)]
    total = sum(cell.steps for cell in plan) + steps_after
    cells, done = [], 0
    for cell in plan:
        clip = steered_clip(
            model, pictures, cell, steering, controls=controls, on_step=count_from(on_step, done, total)
        )
        done += cell.steps
        frames = spread(len(clip), shown)
        report = measure(clip, image=(pictures.movedim(1, -1) + 1) / 2, asked=_asked(cell, clip))
        cells.append(Cell(cell, tuple(frames), clip[frames].clone(), report, measured(report)))
    ranks = ranking([cell.numbers for cell in cells], aim)
    return Sweep(grid, aim, tuple(replace(cell, rank=rank) for cell, rank in zip(cells, ranks, strict=True)))


def full_settings(settings: AnimateSettings, best: Cell, steps: int | None, model: "SVDModel") -> AnimateSettings:
    """Return the settings of the best cell with `steps` steps, None for the number that the model was released with.

    settings: those given to the sweep.
    """
    return replace(settings, steps=steps, **_settings(best, NAMES)).resolve(model.config)


def count_from(on_step: Callable[[Step], None] | None, done: int, total: int) -> Callable[[Step], None] | None:
    """Return `on_step` for a run that begins after `done` of `total` steps."""
    if on_step is None:
        return None
    return lambda step: on_step(step._replace(index=done + step.index, steps=total))


def _asked(settings: AnimateSettings, clip: Tensor) -> Tensor | None:
    """Return the camera track [T, 4] that resolved `settings` ask of a clip, None without one."""
    if not settings.camera or settings.camera_strength == 0:
        return None
    return parse_path(settings.camera).poses(settings.frames).views(clip.shape[2], clip.shape[1])


def _settings(cell: Cell, names: Iterable[str]) -> dict[str, float]:
    return {name: getattr(cell.settings, name) for name in names}


def _values(cell: Cell, names: Iterable[str]) -> list[str]:
    return [f"{value:g}" if isinstance(value, float) else str(value) for value in _settings(cell, names).values()]


def _numbers(cell: Cell, columns: Iterable[tuple[str, str, str]]) -> list[str]:
    found = ((cell.numbers[name], form) for name, _, form in columns)
    return ["-" if value is None else format(value, form) for value, form in found]
