"""The log of a run: rows of mean losses in a CSV file that a resumed run continues, and their plot."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..charts import PALETTE, Chart, Curve, draw_charts
from ..files import replacing, write_error, write_text

LOG_FILE = "log.csv"
BAND_EDGES = (0.3, 1.0, 3.0, 10.0, 30.0)  # noise levels between which the loss is listed separately
BANDS = (
    f"below {BAND_EDGES[0]:g}",
    *(f"{low:g} to {high:g}" for low, high in zip(BAND_EDGES, BAND_EDGES[1:], strict=False)),
    f"from {BAND_EDGES[-1]:g}",
)
PLOT_FILE = "loss.png"
PLOT_SIZE = (960, 432)  # of the chart, inside a margin
PALE = (180, 200, 230)
SMOOTHING = 0.9  # weight of earlier rows in the smoothed line
COLUMNS = ("step", "loss", "rate", "seconds", *(f"sigma {band}" for band in BANDS))


@dataclass(frozen=True)
class LogRow:
    """Means since the previous row.

    bands: mean loss of the clips in each band of noise levels, None where there were none. seconds: training time of
    all sessions of the run.
    """

    step: int
    loss: float
    rate: float
    seconds: float
    bands: tuple[float | None, ...]

    def cells(self) -> list[str]:
        """Return the row as text."""
        bands = ["" if band is None else f"{band:.6g}" for band in self.bands]
        return [str(self.step), f"{self.loss:.6g}", f"{self.rate:.6g}", f"{self.seconds:.1f}", *bands]


@dataclass
class Totals:
    """Sums of losses since the last row, as plain numbers that a state file can store."""

    loss: float = 0.0
    steps: int = 0
    bands: list[float] = field(default_factory=lambda: [0.0] * len(BANDS))
    clips: list[int] = field(default_factory=lambda: [0] * len(BANDS))

    def add(self, losses: Sequence[float], sigmas: Sequence[float]) -> None:
        """Add the losses of one step's clips."""
        self.loss += sum(losses) / len(losses)
        self.steps += 1
        for loss, sigma in zip(losses, sigmas, strict=True):
            band = sum(sigma >= edge for edge in BAND_EDGES)
            self.bands[band] += loss
            self.clips[band] += 1

    def row(self, step: int, rate: float, seconds: float) -> LogRow:
        """Return the means as a row."""
        bands = tuple(total / count if count else None for total, count in zip(self.bands, self.clips, strict=True))
        return LogRow(step, self.loss / max(1, self.steps), rate, seconds, bands)


class Pending:
    """Losses that are still on the device, because reading them one by one would make it wait in every step."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._sigmas: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._steps: list[int] = []

    def add(self, losses: Tensor, sigmas: Tensor, norm: Tensor | None) -> None:
        """Add one step's losses [N] and noise levels [N], and the norm of its gradient where that must be finite."""
        self._losses.append(losses)
        self._sigmas.append(sigmas)
        self._norms.extend([] if norm is None else [norm])
        self._steps.append(len(losses))

    def read_into(self, totals: Totals) -> bool:
        """Move everything into the sums. Return False if a loss or a gradient is not finite."""
        if not self._losses:
            return True
        losses, sigmas = torch.cat(self._losses).tolist(), torch.cat(self._sigmas).tolist()
        finite = all(map(math.isfinite, losses))
        if self._norms:
            finite &= bool(torch.stack(self._norms).isfinite().all())
        begin = 0
        for count in self._steps:
            totals.add(losses[begin : begin + count], sigmas[begin : begin + count])
            begin += count
        self._losses, self._sigmas, self._norms, self._steps = [], [], [], []
        return finite


def read_log(folder: Path) -> list[LogRow]:
    """Return the rows of a run's log in order, without those that are cut off or damaged; empty without a log."""
    path = folder / LOG_FILE
    if not path.exists():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in file:
            row = _row(line) if line.endswith("\n") else None
            if row is not None:
                rows.append(row)
    return rows


def _row(line: str) -> LogRow | None:
    """Return the row of a line, None where it is none, such as the line of titles."""
    cells = line.strip().split(",")
    if len(cells) != len(COLUMNS) or not re.fullmatch("[0-9]{1,12}", cells[0]):
        return None
    try:
        numbers = [float(cell) if cell or place < 4 else None for place, cell in enumerate(cells)]
    except ValueError:
        return None
    if not all(math.isfinite(number) for number in numbers if number is not None):
        return None
    return LogRow(int(cells[0]), *numbers[1:4], tuple(numbers[4:]))


def start_log(folder: Path, step: int) -> list[LogRow]:
    """Remove the rows after `step`, which a killed run wrote after its last state, and return the rest."""
    rows = [row for row in read_log(folder) if row.step <= step]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells() for row in rows)
    write_text(folder / LOG_FILE, text.getvalue())
    return rows


def append_row(folder: Path, row: LogRow) -> None:
    """Append one row to the log."""
    path = folder / LOG_FILE
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row.cells())
    except OSError as error:
        raise write_error(path, error) from error


def draw_loss(rows: Sequence[LogRow], steps: int) -> Image.Image:
    """Return a chart of the loss of every row (pale) and a smoothed line over steps 0..`steps`, on a log scale."""
    smooth: list[float] = []
    for row in rows:
        smooth.append(SMOOTHING * smooth[-1] + (1 - SMOOTHING) * row.loss if smooth else row.loss)
    last = rows and f", step {rows[-1].step} of {steps}: {smooth[-1]:.4g} smoothed, rate {rows[-1].rate:.2g}"
    at = [row.step for row in rows]
    curves = [Curve([row.loss for row in rows], "each row", at, PALE, 1), Curve(smooth, "smoothed", at, PALETTE[0])]
    marks = {mark: f"{mark}" for mark in sorted({round(steps * share / 5) for share in range(6)})}
    chart = Chart(f"loss{last or ''}", curves, marks, log_scale=True, empty="no rows yet")
    return draw_charts("", [chart], width=PLOT_SIZE[0], height=PLOT_SIZE[1])


def write_plot(folder: Path, rows: Sequence[LogRow], steps: int) -> None:
    """Replace the plot in a run's folder."""
    path = folder / PLOT_FILE
    try:
        with replacing(path) as temporary:
            draw_loss(rows, steps).save(temporary, format="PNG")
    except OSError as error:
        raise write_error(path, error) from error
