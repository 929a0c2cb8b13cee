"""Write the described workflows to files."""

import json
from pathlib import Path
from typing import Any

from .definitions import describe
from .library import ROOT, library

FOLDER = ROOT / "workflows"


def build_all(without_models: bool = False, folded: bool = True) -> dict[str, dict[str, Any]]:
    """Return every workflow's JSON by file stem; without_models: with the switches of their notes applied.

    folded: with subgraphs.
    """
    return {graph.name: graph.to_json(without_models, folded) for graph in describe(library())}


def write_all(folder: Path = FOLDER, without_models: bool = False) -> list[Path]:
    """Write every workflow; return the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, workflow in build_all(without_models).items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    return written
