"""How long does a batch take around its clips: planning, saving what is done, and going on with nothing left to do?"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .many_rows import PICTURES, SAVES
from .options import Setting
from .results import Report
from .rss import ROOT

CPU, GPU = ("small", "14x128x128"), ("small", "14x128x128")
FEW, MANY = 4_000, 100_000
"""Rows. An older checkout rewrote its manifest after every clip, so it is measured with the first number only."""

QUESTIONS = {"plan": "planning, seconds", "resume": "going on, seconds", "save": "saving one clip, milliseconds"}


def run(chosen: Setting) -> Report:
    """Measure this checkout with both numbers of rows, and an older one with the first."""
    before = ["before"] if chosen.before else []
    report = chosen.report("batch_rows", "Batches of many rows", ["rows", "what", *before, "ours"])
    for rows in (FEW, MANY):
        found = {"ours": _measured(ROOT, rows, chosen.work)}
        if chosen.before and rows == FEW:
            found["before"] = _measured(chosen.before, rows, chosen.work)
        for key, what in QUESTIONS.items():
            report.rows.append({"rows": rows, "what": what, **{name: numbers[key] for name, numbers in found.items()}})
    report.notes += [
        f"rows of a .csv with a name and a seed each, over {PICTURES:,} pictures; clips are files of one byte",
        "planning reads the table, hashes the pictures and checks the settings; going on does so with a full manifest "
        f"and looks at every clip; saving is the median of the last {SAVES} clips",
    ]
    return report


def _measured(root: Path, rows: int, work: Path) -> dict[str, float]:
    """Return the numbers of one checkout, from a process of its own."""
    folder = work / "rows"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).with_name("many_rows.py")), str(root), str(folder), str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    shutil.rmtree(folder, ignore_errors=True)
    return json.loads(done.stdout.strip().splitlines()[-1])
