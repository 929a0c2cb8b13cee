"""Draws the contact sheet: a frame of every panel with its time, its move and how it begins."""

import math

from PIL import Image, ImageDraw
from torch import Tensor

from ..pictures.sheets import FAINT, INK, LINE, PAPER, as_image, fitting, font, small_picture
from .timing import Timing

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
    head = fitting(pen, f"{title}: {len(shown)} panels, {length}", wide - 2 * MARGIN, TITLE)
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
            pen.text(place, fitting(pen, text, cell_width, TEXT), fill=colour, font=font(TEXT))
    return as_image(sheet)
