"""Workers that are processes of this machine, each with its own model; one that is killed takes nothing with it."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import multiprocessing

from ..sampling.solvers import Step
from .dispatch import Event, attempt
from .jobs import ClipJob, ModelSpec, make_clip

PAUSE = 0.02
"""Seconds between two looks at workers that have nothing to say."""

PATIENCE = 5.0
"""Seconds that a worker without work may take to end."""


class LocalProcesses:
    """One process per spec, started afresh (nothing inherited), so that each may use its own GPU."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self.specs, self.size = tuple(specs), len(specs)
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, Any] = {}
        self._lines: dict[int, Any] = {}
        self._busy: set[int] = set()

    @property
    def pids(self) -> dict[int, int]:
        """Process number of every worker that was started and not yet found dead."""
        return {worker: process.pid for worker, process in self._processes.items()}

    def start(self, worker: int) -> None:
        """Start a process, which loads the model and says `ready`."""
        # A line of its own for each: a worker killed while it speaks can garble no other's words.
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, worker, self.specs[worker]), daemon=True)
        process.start()
        theirs.close()
        self._processes[worker], self._lines[worker] = process, ours

    def submit(self, worker: int, job: ClipJob) -> None:
        """Send a job; a worker that is gone is noticed by the next `poll`."""
        self._busy.add(worker)
        with suppress(ConnectionError):
            self._lines[worker].send(job)

    def poll(self) -> list[Event]:
        """News of all workers."""
        events = [event for worker in list(self._lines) for event in self._news(worker)]
        if not events:
            time.sleep(PAUSE)
        return events

    def _news(self, worker: int) -> list[Event]:
        line, process, events = self._lines[worker], self._processes[worker], []
        alive = process.is_alive()  # before its last words are read: what it says afterwards is read next time
        try:
            while line.poll():
                events.append(line.recv())
        except (EOFError, ConnectionError):
            alive = False
        if any(event.kind in ("done", "failed") for event in events):
            self._busy.discard(worker)
        if not alive:
            process.join(PATIENCE)
            events.append(Event(worker, "lost", f"process {process.pid} ended with code {process.exitcode}"))
            self._forget(worker)
        return events

    def _forget(self, worker: int) -> None:
        self._lines.pop(worker).close()
        self._processes.pop(worker)
        self._busy.discard(worker)

    def stop(self) -> None:
        """End all processes; one that is at work is cut off."""
        for line in self._lines.values():
            line.close()
        for worker, process in self._processes.items():
            process.join(0 if worker in self._busy else PATIENCE)
            if process.is_alive():
                process.terminate()
                process.join(PATIENCE)
        self._lines, self._processes, self._busy = {}, {}, set()


class _Orphaned(KeyboardInterrupt):
    """The batch itself is gone: what is begun is not finished, or a restart would do it at the same time."""


def _work(line: Any, worker: int, spec: ModelSpec) -> None:
    """The life of one process: load, then make what is asked for until the line is closed."""
    parent = multiprocessing.parent_process()

    def watch(step: Step) -> None:
        if not parent.is_alive():
            raise _Orphaned

    try:
        model = spec.load()
    except (ValueError, OSError) as error:
        line.send(Event(worker, "broken", str(error)))
        return
    try:
        line.send(Event(worker, "ready"))
        while True:
            job: ClipJob = line.recv()
            event = attempt(worker, lambda job=job: make_clip(model, job, spec.path, on_step=watch))
            line.send(event)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # no one is left to work for
