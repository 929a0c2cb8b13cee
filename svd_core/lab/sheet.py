"""Draw a sweep as one labelled sheet: its lists along the sides, frames and measured motion in every cell.

Cells that drift more than the limit of their score are greyed.
"""

from PIL import Image, ImageDraw
from torch import Tensor

from ..charts import BEST, FAINT, INK, LINE, PAPER, font, shorten
from ..pictures.sheets import as_image, small_picture
from .scores import beyond_limit
from .sweep import Cell, Sweep

SHOWN = {"first, middle, last": 3, "strip of 6": 6, "last": 1}
"""What a cell shows of its clip, and the number of frames."""

GREYED = 0.55  # share of the paper over frames of cells beyond the drift limit
MARGIN, GAP, FRAME_GAP, BORDER = 20, 14, 2, 3
TITLE, TEXT, LINES = 20, 14, 2
WIDEST, SMALLEST, LARGEST, LEAST_CELL = 2600, 64, 192, 176


def draw_sheet(sweep: Sweep, title: str = "Motion lab") -> Tensor:
    """Return the sheet [1, H, W, 3] in 0..1; the best cell has a green frame."""
    columns = sweep.grid.columns
    rows = [sweep.cells[start : start + columns] for start in range(0, len(sweep.cells), columns)]
    frames, height, width = sweep.cells[0].shown.shape[:3]
    across = (WIDEST - 2 * MARGIN) / columns / frames - GAP
    small_width = round(min(LARGEST, max(SMALLEST, across)))
    small_height = max(16, round(small_width * height / width))
    cell_width = max(LEAST_CELL, frames * (small_width + FRAME_GAP) - FRAME_GAP) + 2 * BORDER
    cell_height = small_height + 2 * BORDER + LINES * (TEXT + 4) + 4
    row_head = (TEXT + 8) if len(sweep.grid.varying) > 1 else 0
    column_head = (TEXT + 8) if sweep.grid.varying else 0
    top = MARGIN + 2 * (TITLE + 8) + column_head
    # The lines above the cells need room even above one narrow cell.
    wide = max(2 * MARGIN + columns * (cell_width + GAP) - GAP, 720)
    sheet = Image.new("RGB", (wide, top + len(rows) * (row_head + cell_height + GAP) - GAP + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    _head(pen, sweep, title, wide)
    for column, cell in enumerate(rows[0]):
        place = (MARGIN + column * (cell_width + GAP) + BORDER, top - column_head)
        pen.text(place, sweep.grid.column_label(cell.settings), fill=INK, font=font(TEXT + 1))
    for number, row in enumerate(rows):
        y = top + number * (row_head + cell_height + GAP)
        pen.text((MARGIN + BORDER, y), sweep.grid.row_label(row[0].settings), fill=INK, font=font(TEXT + 1))
        for column, cell in enumerate(row):
            place = (MARGIN + column * (cell_width + GAP), y + row_head)
            over = beyond_limit(cell.numbers, sweep.aim)
            _draw_cell(sheet, pen, cell, place, (cell_width, cell_height), (small_width, small_height), over)
    return as_image(sheet)


def _head(pen: ImageDraw.ImageDraw, sweep: Sweep, title: str, wide: int) -> None:
    steps = sweep.cells[0].settings.steps
    room = wide - 2 * MARGIN
    first = f"{title}: {len(sweep.cells)} clips of {sweep.cells[0].report.frames} frames, {steps} steps"
    pen.text((MARGIN, MARGIN - 4), shorten(pen, first, room, TITLE), fill=INK, font=font(TITLE))
    second = f"Best ({sweep.aim.text}): {sweep.best_text}"
    pen.text((MARGIN, MARGIN + TITLE + 6), shorten(pen, second, room, TEXT + 1), fill=BEST, font=font(TEXT + 1))


def _draw_cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    cell: Cell,
    place: tuple[int, int],
    size: tuple[int, int],
    small: tuple[int, int],
    over: bool,
) -> None:
    """Draw one cell at `place` (left, top): its frames, then its numbers; greyed if it is `over` the limit."""
    (x, y), (width, height) = place, size
    best = cell.rank == 1
    edge = (BEST, BORDER) if best else (LINE, 1)
    pen.rectangle((x, y, x + width - 1, y + height - 1), outline=edge[0], width=edge[1])
    for number, frame in enumerate(cell.shown):
        picture = small_picture(frame, *small)
        if over:
            picture = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, PAPER), GREYED)
        sheet.paste(picture, (x + BORDER + number * (small[0] + FRAME_GAP), y + BORDER))
    left, line = x + BORDER + 4, y + BORDER + small[1] + 3
    numbers = cell.numbers
    first = f"motion {numbers['motion_percent']:.2f} % a frame"
    second = f"drift {numbers['drift']:.1f} %, flicker {numbers['flicker']:.2f} %"
    if numbers.get("followed") is not None:
        first += f", followed {100 * numbers['followed']:.0f} %"
    if over:
        second += ", over the limit"
    pen.text((left, line), first, fill=BEST if best else FAINT if over else INK, font=font(TEXT))
    pen.text((left, line + TEXT + 4), second, fill=FAINT, font=font(TEXT - 1))
    rank = "best" if best else f"{cell.rank}."
    edge_right = x + width - BORDER - 4 - pen.textlength(rank, font=font(TEXT))
    pen.text((edge_right, line), rank, fill=BEST if best else FAINT, font=font(TEXT))
