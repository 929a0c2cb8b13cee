"""Mutation testing: break one place of a room at a time and see whether the room's own tests notice.

    pip install "cosmic-ray>=8.4" "coverage>=7.10"       # the extra `mutants` of pyproject.toml
    python -m tools.mutants controls                     # 40 random mutants of svd_core/controls
    python -m tools.mutants pictures --sample 100 --seed 7
    python -m tools.mutants controls --file mask.py --tests test_mask.py test_brush.py     # in seconds

cosmic-ray makes the mutants. Everything runs in a copy of the tree, at low priority. One run of the room's tests under
coverage records which tests execute which lines; each mutant is then tried only against those, the fastest first. A
mutant that makes the tests fail, or run much longer than before, is killed.

`tools.trials` has the processes that run the tests. Needs Linux or macOS, and Python 3.11 or newer.
"""

import argparse
import ast
import contextlib
import difflib
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .import_graph import FLOORS, ROOT
from .trials import Trial

# Operators that change nothing, or nothing that a test could see: small numbers and short texts that are equal are the
# same object in CPython.
LEFT_OUT = {
    "core/NoOp",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
}
# Keywords that only forbid what the code never does: another assignment, or sequences of different lengths.
FORBIDDING = {"frozen", "strict"}
UNCHANGED = {"name", "newline", "string", "fstring_start", "fstring_string", "fstring_end", "endmarker"}
Span = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Mutant:
    """One change: the `occurrence`-th place of a file where a cosmic-ray operator applies."""

    path: str
    line: int
    operator: str
    occurrence: int


def sources_of(room: str, root: Path = ROOT) -> list[Path]:
    """Return the files of a room ("controls", "memory", "nodes"), relative to `root`."""
    rooms = {Path(path).stem: path for floor in FLOORS for path in floor}
    if room not in rooms:
        raise SystemExit(f"there is no room named {room!r}; choose one of {', '.join(sorted(rooms))}")
    place = root / rooms[room]
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return [path.relative_to(root) for path in files]


def left_out_spans(tree: ast.AST) -> list[Span]:
    """Return (start, end) of what no test of behaviour can or should notice.

    These are annotations, which nothing reads; the text of errors and of log lines; and keywords that only forbid.
    """
    spans = []
    for node in ast.walk(tree):
        parts = [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            parts += node.exc.args
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            parts += node.args
        if isinstance(node, ast.keyword) and node.arg in FORBIDDING:
            parts.append(node.value)
        spans += [
            ((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
            for part in parts
            if isinstance(part, ast.AST)
        ]
    return spans


def mutants_of(path: Path, root: Path = ROOT) -> Iterator[Mutant]:
    """Yield every mutant that cosmic-ray can make of a file, outside what is left out."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    spans = left_out_spans(ast.parse((root / path).read_text(encoding="utf-8")))
    # Most nodes are names and texts, which no operator changes.
    nodes = [node for node in ast_nodes(get_ast_from_path(root / path)) if node.type not in UNCHANGED]
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or name in LEFT_OUT:
            continue
        places = [start for node in nodes for start, _ in kind().mutation_positions(node)]
        for occurrence, start in enumerate(places):
            if not any(first <= start < last for first, last in spans):
                yield Mutant(path.as_posix(), start[0], name, occurrence)


def sample_mutants(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants at different places.

    Drawn are places first (a line and a kind of operator), then one change there: a `+` has eleven replacements, nearly
    all of which any test notices, and a comparison with 0 two that matter.
    """
    places: dict[tuple[str, int, str], list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        places[mutant.path, mutant.line, mutant.operator.split("_")[0]].append(mutant)
    chooser = random.Random(seed)
    keys = chooser.sample(sorted(places), min(count, len(places)))
    return [chooser.choice(places[key]) for key in keys]


def source_of(mutant: Mutant, before: str) -> str:
    """Return the source of a file with the change of a mutant."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
    if after is None:
        raise RuntimeError(f"cosmic-ray made no change for {mutant}")
    return after


def difference(before: str, after: str) -> str:
    """Return the changed lines of two sources, marked with - and +."""
    return "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff(before.splitlines(True), after.splitlines(True), n=0)
        if line[0] in "+-" and not line.startswith(("+++", "---"))
    )


def examine_room(room: str, count: int, seed: int, file: str = "", tests: Sequence[str] = ()) -> int:
    """Try `count` mutants of a room, print each and the sum; return how many survived.

    file: break only this one. tests: run only these files of the room's tests.
    """
    sources = [path for path in sources_of(room) if path.name.endswith(file)]
    everything = [mutant for path in sources for mutant in mutants_of(path)]
    sample = sample_mutants(everything, count, seed)
    if not sample:
        raise SystemExit(f"{room} has no file {file!r} with mutants; leave --file out, or name one of its files")
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        trial = Trial(Path(name, "tree"), [f"tests/{room}/{test}" for test in tests or [""]], sources_of(room))
        print(
            f"{room}: {len(everything)} mutants possible, {len(trial.coverage.seconds)} tests, seed {seed}", flush=True
        )
        alive = []
        for mutant in sample:
            start = time.monotonic()
            before = (trial.folder / mutant.path).read_text(encoding="utf-8")
            after, place = source_of(mutant, before), f"{mutant.path}:{mutant.line}"
            verdict, test = trial.verdict_on(mutant.path, after, mutant.line)
            print(f"{verdict:20} {time.monotonic() - start:6.1f} s  {place}  {mutant.operator}  {test}", flush=True)
            if verdict != "killed":
                alive.append(f"{place}  {mutant.operator}  ({verdict})\n{difference(before, after)}")
        trial.close()
    print(*alive, sep="\n")
    killed = len(sample) - len(alive)
    print(f"{room}: {len(sample)} mutants, {killed} killed, {len(alive)} survived, {killed / len(sample):.0%} killed")
    return len(alive)


def main() -> int:
    """Read the command line and examine the room."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("room", help="which room to break, such as controls")
    parser.add_argument("--sample", type=int, default=40, help="how many mutants to try (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default 0)")
    parser.add_argument("--file", default="", help="break only this file of the room, such as mask.py")
    parser.add_argument("--tests", nargs="+", default=(), help="run only these files, such as test_mask.py")
    options = parser.parse_args()
    try:
        import cosmic_ray  # noqa: F401
        import coverage  # noqa: F401
    except ImportError as error:
        raise SystemExit(f'{error.name} is missing; run pip install "cosmic-ray>=8.4" "coverage>=7.10"') from None
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return 1 if examine_room(options.room, options.sample, options.seed, options.file, options.tests) else 0


if __name__ == "__main__":
    sys.exit(main())
