"""Descriptions to files."""

import json
from pathlib import Path
from typing import Any

from .definitions import describe
from .library import ROOT, library

FOLDER = ROOT / "workflows"


def build_all() -> dict[str, dict[str, Any]]:
    """Return every workflow's JSON by file stem."""
    return {graph.name: graph.to_json() for graph in describe(library())}


def write_all(folder: Path = FOLDER) -> list[Path]:
    """Write every workflow; return the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, workflow in build_all().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    return written
