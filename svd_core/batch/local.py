"""Workers as processes of this machine, each with its own model; a killed process costs only the clip it had."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import multiprocessing

from ..sampling.solvers import Step
from .dispatch import Event, attempt
from .jobs import ClipJob, ModelSpec, make_clip

PAUSE = 0.02
"""Seconds to wait where no worker has sent an event."""

PATIENCE = 5.0
"""Seconds in which an idle worker may end by itself before it is terminated."""


class LocalProcesses:
    """One spawned process per spec, which inherits nothing, so that each can use its own GPU."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self.specs, self.size = tuple(specs), len(specs)
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, Any] = {}
        self._pipes: dict[int, Any] = {}
        self._busy: set[int] = set()
        self._leaving: list[Any] = []

    @property
    def pids(self) -> dict[int, int]:
        """Process number of every worker that was started and not found dead."""
        return {worker: process.pid for worker, process in self._processes.items()}

    def start(self, worker: int) -> None:
        """Start a process, which loads the model and reports `ready`."""
        # One pipe each: a worker killed while it writes cannot garble the messages of others.
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, worker, self.specs[worker]), daemon=True)
        process.start()
        theirs.close()
        self._processes[worker], self._pipes[worker] = process, ours

    def submit(self, worker: int, job: ClipJob) -> None:
        """Send a job; the next `poll` reports a worker that is gone."""
        self._busy.add(worker)
        with suppress(ConnectionError):
            self._pipes[worker].send(job)

    def poll(self) -> list[Event]:
        """Return the events of all workers since the last call."""
        events = [event for worker in list(self._pipes) for event in self._events_of(worker)]
        if not events:
            time.sleep(PAUSE)
        return events

    def _events_of(self, worker: int) -> list[Event]:
        pipe, process, events = self._pipes[worker], self._processes[worker], []
        alive = process.is_alive()  # before the pipe is read: what comes afterwards is read by the next call
        try:
            while pipe.poll():
                events.append(pipe.recv())
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
        self._pipes.pop(worker).close()
        self._processes.pop(worker)
        self._busy.discard(worker)

    def release(self, worker: int) -> None:
        """Let the idle process end, which gives back its memory."""
        self._pipes.pop(worker).close()
        self._leaving.append(self._processes.pop(worker))

    def needs(self) -> str:
        """Return nothing: a process of this machine needs no one's leave."""
        return ""

    def stop(self) -> None:
        """End all processes; one that is making a clip is terminated."""
        for pipe in self._pipes.values():
            pipe.close()
        idle = [process for worker, process in self._processes.items() if worker not in self._busy]
        for process in (*self._leaving, *idle):
            process.join(PATIENCE)
        for process in (*self._leaving, *self._processes.values()):
            if process.is_alive():
                process.terminate()
                process.join(PATIENCE)
        self._pipes, self._processes, self._busy, self._leaving = {}, {}, set(), []


class _Orphaned(KeyboardInterrupt):
    """The batch process is gone. The clip is dropped, because a restarted batch would make it at the same time."""


def _work(pipe: Any, worker: int, spec: ModelSpec) -> None:
    """Run one worker process: load the model, then make clips until the pipe is closed."""
    parent = multiprocessing.parent_process()

    def watch(step: Step) -> None:
        if not parent.is_alive():
            raise _Orphaned

    try:
        model = spec.load()
    except (ValueError, OSError) as error:
        pipe.send(Event(worker, "broken", str(error)))
        return
    try:
        pipe.send(Event(worker, "ready"))
        while True:
            job: ClipJob = pipe.recv()
            event = attempt(worker, lambda job=job: make_clip(model, job, spec.path, on_step=watch))
            pipe.send(event)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # the batch has ended
