"""The processes that run a room's tests with one change of the code, for `tools.mutants`.

One process imports the tests and forks a child for every change. The child exchanges the code of the functions that
changed and runs the tests: no import, no collection. Where a change acts at import (a constant, a default, a class
body), a process without any of our modules runs the tests instead. Needs Linux or macOS.
"""

import ast
import contextlib
import gc
import inspect
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from .import_graph import ROOT

NOT_COPIED = (".git", ".venv", ".pytest_cache", ".ruff_cache", "output")
OURS = ("tools", "tests", "svd_core", "nodes")
# Imported once; the processes that run tests are forked from the one that has them.
PRELOADED = ["torch", "numpy", "pytest", "safetensors.torch", "av", "PIL.Image"]
# Contexts of lines that no single test runs: those of imports, and those of fixtures that several tests share.
IMPORTED, SHARED = "imported", "shared"
# Exit codes of the children besides pytest's 0 and 1.
IMPORT_AGAIN, BROKEN = 90, 91
KILLER = "killer.txt"  # has the name of the test that failed


class ImportTimeChange(Exception):
    """A change that acts when the module is imported."""


@dataclass
class Coverage:
    """What one run of the unchanged tests showed; `seconds` are of the processor."""

    contexts: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def contexts_of(self, path: str, lines: range) -> set[str]:
        """Return the contexts in which these lines ran."""
        return set().union(*(self.contexts.get(path, {}).get(line, set()) for line in lines))

    def tests_of(self, path: str, lines: range) -> list[str]:
        """Return the tests that can notice a change of these lines, in the order to try them.

        For a line that runs at import or in a shared fixture these are the tests that run any line of the file.
        """
        found = self.contexts_of(path, lines)
        direct = found - {SHARED, IMPORTED}
        if direct == found:
            return self.in_order(direct)
        of_file = set().union(*self.contexts[path].values()) - {SHARED, IMPORTED, *direct}
        return self.in_order(direct) + self.in_order(of_file or set(self.seconds) - direct)

    def limits_of(self, tests: list[str]) -> dict[str, float]:
        """Return how many seconds of the processor each of these tests may take; an endless loop counts as noticed.

        In another order, a test may be the one that imports a library or makes what the tests of its file share.
        """
        slowest: dict[str, float] = defaultdict(float)
        for test, seconds in self.seconds.items():
            file = test.split("::")[0]
            slowest[file] = max(slowest[file], seconds)
        return {test: 8 + 5 * self.seconds[test] + 2 * slowest[test.split("::")[0]] for test in tests}

    def in_order(self, tests: set[str]) -> list[str]:
        """Order tests by file, since those of a file share fixtures: the fastest file first, its fastest test first."""
        files: dict[str, float] = defaultdict(float)
        for test in tests:
            files[test.split("::")[0]] += self.seconds.get(test, 0.0)
        return sorted(
            tests, key=lambda test: (files[test.split("::")[0]], test.split("::")[0], self.seconds.get(test, 0.0), test)
        )


class Recorder:
    """A pytest plugin that sets the context of coverage to the test that runs, and times the tests."""

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

    def pytest_runtest_logstart(self, nodeid) -> None:
        self.seconds[nodeid] -= time.process_time()

    def pytest_runtest_logfinish(self, nodeid) -> None:
        self.seconds[nodeid] += time.process_time()


class Chosen:
    """A pytest plugin that runs the given tests in the given order and nothing else.

    limits: the seconds of the processor that each of them may take.
    """

    def __init__(self, limits: dict[str, float]) -> None:
        self.limits, self.order = limits, {test: number for number, test in enumerate(limits)}

    def pytest_runtest_logstart(self, nodeid) -> None:
        limit_time(self.limits[nodeid])

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            Path(KILLER).write_text(report.nodeid, encoding="utf-8")

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


class Forker:
    """A pytest plugin that collects the tests once, then forks a child for every trial it is sent.

    The first child runs all tests under coverage and sends the fields of a `Coverage`, or None if a test fails. Then
    (path, source before, source after, limits of the tests) are received, until None comes, and the exit code of a
    child is sent for each.
    """

    def __init__(self, folder: str, recording, pipe) -> None:
        self.folder, self.recording, self.pipe = Path(folder).resolve(), recording, pipe

    def pytest_runtestloop(self, session) -> bool:
        items = {item.nodeid: item for item in session.items}
        if in_child(lambda: self.record(session)):
            self.pipe.send(None)
        self.recording.stop()
        for path, before, after, limits in iter(self.pipe.recv, None):

            def trial(path=path, before=before, after=after, limits=limits) -> int:
                session.config.pluginmanager.register(Chosen(limits))
                exchange_functions(str(self.folder / path), before, after)
                return run_items(session, [items[test] for test in limits])

            self.pipe.send(in_child(trial))
        return True

    def record(self, session) -> int:
        """Run all tests under coverage and send what they cover."""
        recorder = Recorder(self.recording)
        session.config.pluginmanager.register(recorder)
        if run_items(session, session.items):
            return 1
        self.recording.stop()
        data, contexts = self.recording.get_data(), {}
        for path in data.measured_files():
            lines = {line: set(names) for line, names in data.contexts_by_lineno(path).items()}
            contexts[Path(path).resolve().relative_to(self.folder).as_posix()] = lines
        # No `Coverage`: this process imports another copy of its module.
        self.pipe.send((contexts, dict(recorder.seconds)))
        return 0


def in_child(work: Callable[[], int]) -> int:
    """Return the exit code of a forked child that does some work."""
    child = os.fork()
    if child == 0:
        code = BROKEN
        try:
            code = work()
        except ImportTimeChange:
            code = IMPORT_AGAIN
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_items(session, items: list) -> int:
    """Run collected tests until the first failure; return 1 if there was one."""
    session.items = items
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def exchange_functions(file: str, before: str, after: str) -> None:
    """Give the functions of this process that were compiled from a file the code that `after` has in their places.

    A module that is not imported yet needs nothing. Raises ImportTimeChange if the sources differ outside functions,
    or if a function cannot be exchanged.
    """
    changes = list(changed_functions(compile(before, file, "exec"), compile(after, file, "exec")))
    ours = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__.co_filename == file]
    for old, new, outermost in changes:
        same = [function for function in ours if function.__code__ == old]
        if outermost and ours and not same:
            raise ImportTimeChange
        for function in same:
            try:
                function.__code__ = new
            except ValueError as error:  # other free variables
                raise ImportTimeChange from error


def changed_functions(
    old: CodeType, new: CodeType, outermost: bool = True
) -> Iterator[tuple[CodeType, CodeType, bool]]:
    """Yield the functions that differ between two versions of a module, and whether no function is around them."""
    nested = [[const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new)]
    if old == new:
        return
    if old.co_flags & inspect.CO_OPTIMIZED:
        yield old, new, outermost
        outermost = False
    elif _outline(old) != _outline(new) or len(nested[0]) != len(nested[1]):
        raise ImportTimeChange
    for pair in zip(*nested, strict=False):
        yield from changed_functions(*pair, outermost)


def _outline(code: CodeType) -> tuple:
    """Return what the body of a module or class does, without the functions and classes in it and without columns."""
    consts = tuple(None if isinstance(const, CodeType) else (type(const), const) for const in code.co_consts)
    return code.co_code, code.co_names, consts, code.co_exceptiontable


def limit_time(seconds: float) -> None:
    """End this process after so many more seconds of the processor, or after a much longer sleep."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, resource.RLIM_INFINITY))
    signal.alarm(600 + int(20 * seconds))


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


def serve_forks(folder: str, tests: list[str], sources: list[str], pipe) -> None:
    """Import the tests in `folder` under coverage, then try mutants until None comes."""
    _enter(folder)
    sys.dont_write_bytecode = False  # for the processes that import again
    import coverage

    recording = coverage.Coverage(data_file=None, include=sources, config_file=False)
    recording.start()
    recording.switch_context(IMPORTED)
    _pytest(folder, tests, Forker(folder, recording, pipe))


def run_tests(folder: str, limits: dict[str, float]) -> None:
    """Import and run tests in `folder`, file by file, until the first failure; exit with pytest's code."""
    _enter(folder)
    sys.dont_write_bytecode = True
    for file, chosen in groupby(limits, key=lambda test: test.split("::")[0]):
        code = _pytest(folder, [file], Chosen({test: limits[test] for test in chosen}))
        if code:
            sys.exit(code)


def _pytest(folder: str, tests: list[str], plugin) -> int:
    import pytest

    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--basetemp", f"{folder}/tmp", *tests], [plugin]))


def _enter(folder: str) -> None:
    """Make this process see the copy in `folder` instead of the tree it was started from."""
    os.chdir(folder)
    sys.path[:] = [folder] + [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    log = os.open("mutants.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


class Trial:
    """A copy of the tree in `folder`, where changes of `sources` are tried against `tests`, files or one folder."""

    def __init__(self, folder: Path, tests: list[str], sources: list[Path]) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self.folder, self.tests = folder, tests
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
        measured = [str(folder / path) for path in sources]
        self.pipe, other = self.context.Pipe()
        self.forker = self.context.Process(target=serve_forks, args=(str(folder), tests, measured, other))
        self.forker.start()
        other.close()
        self.coverage = Coverage(*self._answer())

    def close(self) -> None:
        """End the process that forks."""
        self.pipe.send(None)
        self.forker.join()

    def verdict_on(self, path: str, after: str, line: int) -> tuple[str, str]:
        """Return "killed", "survived" or "not run by any test" for a source changed at `line`, and the killing test."""
        file = self.folder / path
        before = file.read_text(encoding="utf-8")
        lines = statement_lines(ast.parse(before), line)
        tests = self.coverage.tests_of(path, lines)
        if not tests:
            return "not run by any test", ""
        limits = self.coverage.limits_of(tests)
        # On disk it is for processes that tests start, and for what is imported late. The times tell Python whether the
        # bytecode beside the file is that of the file.
        killer, written = self.folder / KILLER, file.stat().st_mtime
        killer.unlink(missing_ok=True)
        file.write_text(after, encoding="utf-8")
        os.utime(file, (written + 1e6, written + 1e6))
        try:
            code = IMPORT_AGAIN
            if IMPORTED not in self.coverage.contexts_of(path, lines):
                self.pipe.send((path, before, after, limits))
                code = self._answer()
            if code == IMPORT_AGAIN:
                child = self.context.Process(target=run_tests, args=(str(self.folder), limits))
                child.start()
                child.join()
                code = child.exitcode
        finally:
            file.write_text(before, encoding="utf-8")
            os.utime(file, (written, written))
        if not code:
            return "survived", ""
        return "killed", killer.read_text(encoding="utf-8") if killer.exists() else ""

    def _answer(self) -> Any:
        """Return the next answer of the process that forks."""
        answer = None
        with contextlib.suppress(EOFError):
            answer = self.pipe.recv()
        if answer is None or answer == BROKEN:
            log = (self.folder / "mutants.log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{' '.join(self.tests)} fail without a change; make them pass first\n{log[-3000:]}")
        return answer
