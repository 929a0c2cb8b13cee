"""The report of a measurement, written as JSON, as a Markdown table and as a bar chart."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from svd_core.charts import PALETTE, Bar, draw_bars

HERE = Path(__file__).resolve().parent
ORDER = (
    "counts", "unet", "decode", "clip", "kernels", "load", "memory_caps", "half_precision", "ablation", "approximate",
    "batch_losses", "batch_rows", "startup", "growth",
)  # fmt: skip
WIDTH = 900


@dataclass
class Report:
    """Answer to one question.

    rows: cells by column. bars: (label, value) of the chart, in `unit`; page: a picture instead of bars.
    """

    name: str
    question: str
    machine: str
    command: str
    columns: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    unit: str = "seconds"
    page: Image.Image | None = None

    def markdown(self) -> str:
        """Return the section of RESULTS.md."""
        lines = [f"## {self.question}", "", f"Machine: {self.machine}", "", f"    {self.command}", ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in self.columns) + " |" for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: Path) -> None:
        """Write NAME.json, NAME.md and NAME.png, and print the table."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(self._numbers(), indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        page = plot(self.bars, f"{self.name}: {self.unit}") if self.bars else self.page
        if page is not None:
            page.save(folder / f"{self.name}.png")
        print(self.markdown(), flush=True)

    def _numbers(self) -> dict[str, Any]:
        numbers = asdict(replace(self, page=None))
        del numbers["page"]
        return numbers


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def plot(bars: Sequence[tuple[str, float]], title: str) -> Image.Image:
    """Draw horizontal bars with their values, those of this project in another colour."""
    shown = [Bar(name[:34], (value,), _cell(value), PALETTE[0 if "ours" in name else 1 :]) for name, value in bars]
    return draw_bars(title, shown, width=WIDTH)


def collect(folder: Path, target: Path = HERE / "RESULTS.md") -> None:
    """Write RESULTS.md from the sections in `folder`."""
    parts = [
        "# Results\n\nMade by `python -m benchmarks all`; see `benchmarks/README.md` for how each number is measured.\n"
    ]
    for name in ORDER:
        section = folder / f"{name}.md"
        if section.exists():
            parts.append(section.read_text(encoding="utf-8"))
            if (folder / f"{name}.png").exists() and folder.parent == target.parent:
                parts.append(f"![{name}]({folder.name}/{name}.png)\n")
    target.write_text("\n".join(parts), encoding="utf-8")
