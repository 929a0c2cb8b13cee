"""`python -m benchmarks compare OLD NEW`: did any count grow? OLD, NEW: counts.json, or folders with one.

It compares kernels, operations, bytes moved and peak memory of `python -m benchmarks counts`, never seconds. The exit
code is 1 if a count grew or a stage is gone, so that continuous integration can run it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .counts import KERNELS, MOVED, PEAK, WORK

TOLERANCES = {KERNELS: 0.0, WORK: 0.001, MOVED: 0.005, PEAK: 0.005}
"""Growth that is let pass, as a share of the old count: other versions of torch count some products differently."""


class Change(NamedTuple):
    """One count of one stage, old and new; None where it is missing."""

    stage: str
    count: str
    old: float | None
    new: float | None

    @property
    def is_worse(self) -> bool:
        """Return whether the count grew by more than its tolerance, or is gone."""
        if self.old is None:
            return False
        return self.new is None or self.new > self.old * (1 + TOLERANCES[self.count])

    def text(self) -> str:
        """Return the change as a line."""
        if self.old is None or self.new is None:
            return f"{self.stage}, {self.count}: {'new' if self.old is None else 'gone'}"
        ratio = self.new / self.old if self.old else float("inf")
        mark = "WORSE" if self.is_worse else "same" if self.new == self.old else "better" if ratio < 1 else "within"
        return f"{mark:<6}  {self.stage}, {self.count}: {self.old:,g} -> {self.new:,g} ({ratio:.3f})"


def read_counts(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the counts of a file by stage; ValueError for anything else."""
    path = path / "counts.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {row["stage"]: {name: float(row[name]) for name in TOLERANCES} for row in content["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no counts ({error!r}); write them with `python -m benchmarks counts --output FOLDER`"
        ) from error


def changes(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Return every count of every stage that is in either."""
    stages = [*old, *(stage for stage in new if stage not in old)]
    return [
        Change(stage, count, old.get(stage, {}).get(count), new.get(stage, {}).get(count))
        for stage in stages
        for count in TOLERANCES
    ]


def main(arguments: Sequence[str]) -> int:
    """Print what changed; return 1 if a count grew, 2 for files that hold no counts."""
    if len(arguments) != 2:
        print("python -m benchmarks compare OLD NEW: name two counts.json, or their folders", file=sys.stderr)
        return 2
    try:
        found = changes(*(read_counts(Path(path)) for path in arguments))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(change.text() for change in found))
    worse = [change for change in found if change.is_worse]
    print(f"{len(worse)} of {len(found)} counts grew" if worse else f"none of {len(found)} counts grew")
    return 1 if worse else 0
