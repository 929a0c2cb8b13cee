"""Write tables of numbers into a page of the docs, and rows of frames into a picture."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHOWN, SIDE, TEXT = 6, 128, 18


@dataclass
class Table:
    """Rows of texts under `head`, each with whether it meets the target `wanted`."""

    head: tuple[str, ...]
    wanted: str
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, row: tuple[str, ...], met: bool) -> None:
        """Add a row."""
        self.rows.append((*row, "yes" if met else "**no**"))

    def text(self) -> str:
        """Return the table in Markdown."""
        lines = [(*self.head, "met"), ("---",) * (len(self.head) + 1), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_tables(page: Path, tables: dict[str, Table], how: str) -> None:
    """Replace the text between the markers of a page by these tables."""
    parts = [f"Measured with {how}. The target is in brackets after each heading."]
    parts += [f"**{title}** ({table.wanted})\n\n{table.text()}" for title, table in tables.items()]
    replace_between(page, BEGIN, END, "\n\n".join(parts))


def replace_between(page: Path, begin: str, end: str, words: str) -> None:
    """Replace the text between two markers of a page; raise ValueError if they are missing."""
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{page} lacks {begin} and {end}; add both lines where the tables belong")
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(f"{before}{begin}\n{words}\n{end}{after}", encoding="utf-8", newline="\n")


def write_sheet(path: Path, rows: list[tuple[str, Tensor]]) -> None:
    """Write frames of clips [T, H, W, 3], a labelled row per clip, two clips side by side."""
    cells = []
    for label, clip in rows:
        index = torch.linspace(0, len(clip) - 1, SHOWN).round().long()
        height = round(SIDE * clip.shape[1] / clip.shape[2])
        frames = F.interpolate(clip[index].movedim(-1, 1), (height, SIDE), mode="bilinear", antialias=True).clamp(0, 1)
        strip = (torch.cat(list(frames), dim=2).movedim(0, -1) * 255).round().to(torch.uint8)
        cell = Image.new("RGB", (strip.shape[1], height + TEXT), (255, 255, 255))
        ImageDraw.Draw(cell).text((2, 2), label, fill=(0, 0, 0), font=ImageFont.load_default(13))
        cell.paste(Image.fromarray(strip.numpy()), (0, TEXT))
        cells.append(cell)
    width, height = (max(cell.size[axis] for cell in cells) for axis in (0, 1))
    sheet = Image.new("RGB", (2 * width + 8, -(-len(cells) // 2) * (height + 6)), (255, 255, 255))
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % 2 * (width + 8), number // 2 * (height + 6)))
    sheet.save(path, quality=85)


DOCS = Path(__file__).resolve().parents[2] / "docs"
