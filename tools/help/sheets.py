"""Building blocks of help pictures, 640 pixels wide: rows of frames with captions, lines of text, small charts."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from svd_core.charts import FAINT, INK, LINE, PAPER, font, shorten
from svd_core.pictures.sheets import small_picture, to_picture

WIDTH, MARGIN, GAP, TEXT = 640, 12, 4, 15
LABEL = 22  # pixels of a row of words


def page(height: int, width: int = WIDTH) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a white page and a pen."""
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def rows_of_frames(
    rows: Sequence[tuple[str, Sequence[Tensor]]], *, heads: Sequence[str] = (), marks: dict[int, int] | None = None
) -> Image.Image:
    """Draw rows of frames [H, W, 3] in 0..1, each with a caption; `heads` are captions of the columns.

    marks: row -> number of frames after which a line is drawn.
    """
    count = max(len(frames) for _, frames in rows)
    cell = (WIDTH - 2 * MARGIN - (count - 1) * GAP) // count
    tall = [max(_height(frame, cell) for frame in frames) for _, frames in rows]
    head = LABEL if heads else 0
    words = [LABEL if text else GAP for text, _ in rows]
    sheet, pen = page(MARGIN + head + sum(tall) + sum(words) + MARGIN - GAP)
    for place, text in enumerate(heads):
        pen.text(
            (MARGIN + place * (cell + GAP), MARGIN - 4), shorten(pen, text, cell, TEXT), fill=FAINT, font=font(TEXT)
        )
    y = MARGIN - 4 + head
    for number, (text, frames) in enumerate(rows):
        pen.text((MARGIN, y), text, fill=INK, font=font(TEXT))
        y += words[number]
        for place, frame in enumerate(frames):
            sheet.paste(small_picture(frame, cell, _height(frame, cell)), (MARGIN + place * (cell + GAP), y))
        if marks and number in marks:
            x = MARGIN + marks[number] * (cell + GAP) - GAP // 2 - 1
            pen.line((x, y - 3, x, y + tall[number] + 3), fill=(240, 120, 20), width=GAP)
        y += tall[number]
    return sheet


def table(rows: Sequence[Sequence[str]], shares: Sequence[float], title: str = "") -> Image.Image:
    """Draw a table; `shares` are the relative column widths, and the first row is the head."""
    top = MARGIN + (30 if title else 0)
    sheet, pen = page(top + len(rows) * 28 + MARGIN)
    if title:
        pen.text((MARGIN, MARGIN - 2), title, fill=INK, font=font(18))
    whole, starts = sum(shares), [sum(shares[:place]) for place in range(len(shares))]
    for number, row in enumerate(rows):
        y = top + number * 28
        for text, start, share in zip(row, starts, shares, strict=True):
            x, wide = MARGIN + start / whole * (WIDTH - 2 * MARGIN), share / whole * (WIDTH - 2 * MARGIN) - 8
            pen.text((x, y), shorten(pen, text, wide, TEXT), fill=FAINT if number == 0 else INK, font=font(TEXT))
        pen.line((MARGIN, y + 23, WIDTH - MARGIN, y + 23), fill=LINE)
    return sheet


def text_lines(text: str, title: str = "", *, columns: int = 88) -> Image.Image:
    """Draw text as a page with long lines wrapped."""
    lines = [
        part for line in text.splitlines() for part in textwrap.wrap(line, columns, subsequent_indent="    ") or [""]
    ]
    top = MARGIN + (32 if title else 0)
    sheet, pen = page(top + len(lines) * 20 + MARGIN)
    if title:
        pen.text((MARGIN, MARGIN - 2), title, fill=INK, font=font(18))
        pen.line((MARGIN, top - 8, WIDTH - MARGIN, top - 8), fill=LINE)
    for number, line in enumerate(lines):
        indent = 7 * (len(line) - len(line.lstrip()))
        pen.text((MARGIN + indent, top + number * 20), line.strip(), fill=INK, font=font(14))
    return sheet


def tiles(images: Sequence[Tensor], columns: int) -> Image.Image:
    """Arrange drawings [1, H, W, 3] in rows."""
    wide = (WIDTH - (columns - 1) * GAP) // columns
    small = [to_picture(image) for image in images]
    small = [picture.resize((wide, round(picture.height * wide / picture.width)), Image.LANCZOS) for picture in small]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    sheet, _ = page(sum(max(part.height for part in row) for row in rows))
    y = 0
    for row in rows:
        for place, part in enumerate(row):
            sheet.paste(part, (place * (wide + GAP), y))
        y += max(part.height for part in row)
    return sheet


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Stack pages below one another."""
    sheet, _ = page(sum(part.height for part in parts))
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def scaled(image: Tensor, width: int = WIDTH) -> Image.Image:
    """Resize a drawing [1, H, W, 3] to a width."""
    picture = to_picture(image)
    return picture.resize((width, round(picture.height * width / picture.width)), Image.LANCZOS)


def _height(frame: Tensor, width: int) -> int:
    return round(width * frame.shape[0] / frame.shape[1])
