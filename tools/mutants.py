"""Mutation testing: break one line of a room at a time and see whether the room's own tests notice.

    pip install "cosmic-ray>=8.4" "coverage>=7.10"       # the extra `mutants` of pyproject.toml
    python -m tools.mutants controls                     # 40 random mutants of svd_core/controls
    python -m tools.mutants pictures --sample 100 --seed 7

cosmic-ray makes the mutants. Everything runs in a copy of the tree, at low priority. One run of the room's tests under
coverage records which tests execute which lines; each mutant is then tried only against those, the fastest first. A
mutant that makes the tests fail, or run much longer than before, is killed. Needs Linux or macOS.
"""

import argparse
import ast
import contextlib
import difflib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .import_graph import FLOORS, ROOT

NOT_COPIED = (".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "output")
# Imported once; every mutant's process is forked from the one that has them.
PRELOADED = ["torch", "numpy", "pytest", "safetensors.torch", "av", "PIL.Image"]
# Work of import time and of fixtures that several tests share: any test of the room may depend on it.
SHARED = "shared"
# Operators that change nothing, or nothing that a test could see: small numbers and short texts that are equal are the
# same object in CPython.
LEFT_OUT = {
    "core/NoOp",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
}


@dataclass(frozen=True)
class Mutant:
    """One change: the `occurrence`-th place of a file where a cosmic-ray operator applies."""

    path: str
    line: int
    operator: str
    occurrence: int


@dataclass
class Coverage:
    """What one run of the unchanged tests showed."""

    contexts: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def tests_of(self, path: str, lines: range) -> list[str]:
        """Return the tests that can notice a change of these lines, the fastest of the direct ones first."""
        found: set[str] = set()
        for line in lines:
            found |= self.contexts.get(path, {}).get(line, set())
        direct = sorted(found - {SHARED}, key=lambda test: self.seconds.get(test, 0.0))
        if SHARED not in found:
            return direct
        return direct + sorted(set(self.seconds) - set(direct), key=lambda test: self.seconds[test])


class Recorder:
    """A pytest plugin that tells coverage which test runs, and times the tests."""

    def __init__(self, coverage) -> None:
        self.coverage, self.seconds, self.current = coverage, defaultdict(float), SHARED

    def pytest_runtest_setup(self, item) -> None:
        self.current = item.nodeid
        self.coverage.switch_context(item.nodeid)

    def pytest_fixture_setup(self, fixturedef, request) -> None:
        self.coverage.switch_context(self.current if fixturedef.scope == "function" else SHARED)

    def pytest_fixture_post_finalizer(self, fixturedef, request) -> None:
        self.coverage.switch_context(self.current)

    def pytest_runtest_call(self, item) -> None:
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration


class Chosen:
    """A pytest plugin that runs the given tests in the given order and nothing else."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


def sources_of(room: str, root: Path = ROOT) -> list[Path]:
    """Return the files of a room ("controls", "memory", "nodes"), relative to `root`."""
    rooms = {Path(path).stem: path for floor in FLOORS for path in floor}
    if room not in rooms:
        raise SystemExit(f"there is no room named {room!r}; choose one of {', '.join(sorted(rooms))}")
    place = root / rooms[room]
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return [path.relative_to(root) for path in files]


def annotation_spans(tree: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (start, end) of every annotation: changing `int | None` there proves nothing."""
    spans = []
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if isinstance(part, ast.AST):
                spans.append(((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return spans


def statement_lines(tree: ast.AST, line: int) -> range:
    """Return the lines of the innermost statement around `line`; of a compound statement, those of its head."""
    best = range(line, line + 1)
    smallest = sys.maxsize
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if line <= last and last - node.lineno < smallest:
                best, smallest = range(node.lineno, last + 1), last - node.lineno
    return best


def mutants_of(path: Path, root: Path = ROOT) -> Iterator[Mutant]:
    """Yield every mutant that cosmic-ray can make of a file, outside annotations."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    spans = annotation_spans(ast.parse((root / path).read_text(encoding="utf-8")))
    nodes = list(ast_nodes(get_ast_from_path(root / path)))
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


def record_coverage(folder: str, tests: list[str], sources: list[str], answer) -> None:
    """Run the unchanged tests in `folder`; send their exit code and a `Coverage`."""
    _enter(folder)
    import coverage
    import pytest

    recording = coverage.Coverage(data_file=None, include=sources, config_file=False)
    recorder = Recorder(recording)
    recording.start()
    recording.switch_context(SHARED)
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests], plugins=[recorder])
    recording.stop()
    data, result = recording.get_data(), Coverage(seconds=dict(recorder.seconds))
    for path in data.measured_files():
        lines = {line: set(names) for line, names in data.contexts_by_lineno(path).items()}
        result.contexts[Path(path).resolve().relative_to(Path(folder).resolve()).as_posix()] = lines
    answer.send((int(code), result))


def run_tests(folder: str, tests: list[str]) -> None:
    """Run the given tests in `folder` until the first failure and exit with pytest's code."""
    _enter(folder)
    import pytest

    files = sorted({test.split("::")[0] for test in tests})
    sys.exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *files], plugins=[Chosen(tests)])))


def _enter(folder: str) -> None:
    """Make this process see the copy in `folder` instead of the tree it was started from."""
    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path[:] = [folder] + [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tools", "tests", "svd_core", "nodes")]:
        del sys.modules[name]
    log = os.open("mutants.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def verdict_on(context, folder: Path, mutant: Mutant, coverage: Coverage) -> tuple[str, str]:
    """Return "killed", "survived" or "not run by any test", and the change as a diff."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = folder / mutant.path
    before = path.read_text(encoding="utf-8")
    after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
    if after is None:
        raise RuntimeError(f"cosmic-ray made no change for {mutant}")
    change = "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff(before.splitlines(True), after.splitlines(True), n=0)
        if line[0] in "+-" and not line.startswith(("+++", "---"))
    )
    tests = coverage.tests_of(mutant.path, statement_lines(ast.parse(before), mutant.line))
    if not tests:
        return "not run by any test", change
    path.write_text(after, encoding="utf-8")
    try:
        child = context.Process(target=run_tests, args=(str(folder), tests))
        child.start()
        # Five times as long as before, and a minute to start: an endless loop counts as noticed.
        child.join(60 + 5 * sum(coverage.seconds.get(test, 1.0) for test in tests))
        if child.is_alive():
            child.kill()
            child.join()
    finally:
        path.write_text(before, encoding="utf-8")
    return "survived" if child.exitcode == 0 else "killed", change


def examine_room(room: str, count: int, seed: int) -> int:
    """Try `count` mutants of a room, print each and the sum; return how many survived."""
    sources = sources_of(room)
    everything = [mutant for path in sources for mutant in mutants_of(path)]
    sample = sample_mutants(everything, count, seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name, "tree")
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
        coverage = _covered(context, folder, room, sources)
        print(f"{room}: {len(everything)} mutants possible, {len(coverage.seconds)} tests, seed {seed}", flush=True)
        alive = []
        for mutant in sample:
            start = time.monotonic()
            verdict, change = verdict_on(context, folder, mutant, coverage)
            place = f"{mutant.path}:{mutant.line}"
            print(f"{verdict:20} {time.monotonic() - start:6.1f} s  {place}  {mutant.operator}", flush=True)
            if verdict != "killed":
                alive.append(f"{place}  {mutant.operator}  ({verdict})\n{change}")
    print(*alive, sep="\n")
    killed = len(sample) - len(alive)
    print(f"{room}: {len(sample)} mutants, {killed} killed, {len(alive)} survived, {killed / len(sample):.0%} killed")
    return len(alive)


def _covered(context, folder: Path, room: str, sources: list[Path]) -> Coverage:
    """Run the room's unchanged tests in `folder` and return what they cover."""
    receiver, sender = context.Pipe(duplex=False)
    arguments = (str(folder), [f"tests/{room}"], [str(folder / path) for path in sources], sender)
    child = context.Process(target=record_coverage, args=arguments)
    child.start()
    sender.close()
    try:
        code, coverage = receiver.recv()
    except EOFError:
        code, coverage = 1, Coverage()
    child.join()
    if code:
        log = (folder / "mutants.log").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"the unchanged tests of {room} fail; make them pass first\n{log[-3000:]}")
    return coverage


def main() -> int:
    """Read the command line and examine the room."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("room", help="which room to break, such as controls")
    parser.add_argument("--sample", type=int, default=40, help="how many mutants to try (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default 0)")
    options = parser.parse_args()
    try:
        import cosmic_ray  # noqa: F401
        import coverage  # noqa: F401
    except ImportError as error:
        raise SystemExit(f'{error.name} is missing; run pip install "cosmic-ray>=8.4" "coverage>=7.10"') from None
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return 1 if examine_room(options.room, options.sample, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
