"""What a measurement found: written as JSON, as a Markdown table and as a picture of bars."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
ORDER = (
    "unet", "decode", "clip", "kernels", "load", "memory_caps", "half_precision", "ablation", "approximate",
    "batch_losses",
)  # fmt: skip
BAR, GAP, LEFT, WIDTH = 22, 10, 260, 900
COLOURS = ((38, 84, 124), (239, 131, 84), (79, 109, 74), (120, 120, 120))


@dataclass
class Report:
    """Answer to one question. rows: cells by column; bars: (label, value) for the plot, `unit` says of what."""

    name: str
    question: str
    machine: str
    command: str
    columns: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    unit: str = "seconds"

    def markdown(self) -> str:
        """The section of RESULTS.md."""
        lines = [f"## {self.question}", "", f"Machine: {self.machine}", "", f"    {self.command}", ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in self.columns) + " |" for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: Path) -> None:
        """Write NAME.json, NAME.md and NAME.png, and say where."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        if self.bars:
            plot(self.bars, f"{self.name}: {self.unit}").save(folder / f"{self.name}.png")
        print(self.markdown(), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def plot(bars: Sequence[tuple[str, float]], title: str) -> Image.Image:
    """Horizontal bars with their numbers."""
    picture = Image.new("RGB", (WIDTH, 40 + len(bars) * (BAR + GAP)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    draw.text((10, 8), title, fill="black", font=font)
    longest = max(value for _, value in bars) or 1.0
    for index, (label, value) in enumerate(bars):
        top = 36 + index * (BAR + GAP)
        end = LEFT + int((WIDTH - LEFT - 90) * value / longest)
        draw.text((10, top + 2), label[:34], fill="black", font=font)
        draw.rectangle((LEFT, top, max(end, LEFT + 1), top + BAR), fill=COLOURS[0 if "ours" in label else 1])
        draw.text((end + 8, top + 2), _cell(value), fill="black", font=font)
    return picture


def collect(folder: Path, target: Path = HERE / "RESULTS.md") -> None:
    """Put the sections that are in `folder` together."""
    parts = [
        "# Results\n\nMade by `python -m benchmarks all`; how each number is taken stands in `benchmarks/README.md`.\n"
    ]
    for name in ORDER:
        section = folder / f"{name}.md"
        if section.exists():
            parts.append(section.read_text(encoding="utf-8"))
            if (folder / f"{name}.png").exists() and folder.parent == target.parent:
                parts.append(f"![{name}]({folder.name}/{name}.png)\n")
    target.write_text("\n".join(parts), encoding="utf-8")
