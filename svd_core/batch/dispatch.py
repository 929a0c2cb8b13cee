"""Give jobs to workers, retry clips whose worker was lost, and list the results in the manifest."""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..files import WriteError, remove_leftovers
from .jobs import ClipJob
from .manifest import Manifest

log = logging.getLogger("svd_reel")

FRUITLESS_STARTS = 3
"""Workers that may die in a row before any of them has loaded the model; then the batch ends."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Write errors that would fail every further clip too, each after minutes of sampling."""


@dataclass(frozen=True)
class Event:
    """A message from a worker.

    kind: `ready` (the model is loaded), `done`, `failed`, `lost` (the worker is gone), or `broken` (no worker can go
    on, the batch ends). retry: a failed clip may succeed next time.
    """

    worker: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    retry: bool = False


class Workers(Protocol):
    """A fixed number of workers, local processes or others."""

    size: int

    def start(self, worker: int) -> None:
        """Start a worker, without waiting for it; it reports `ready` later."""

    def submit(self, worker: int, job: ClipJob) -> None:
        """Give a job to a ready worker."""

    def poll(self) -> list[Event]:
        """Return the events since the last call, after a short wait if there are none."""

    def stop(self) -> None:
        """End all workers."""


class BatchError(ValueError):
    """The batch as a whole cannot continue."""


@dataclass
class Outcome:
    """The names of the clips made by a run, and the names and errors of those that failed."""

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class BatchRun:
    """One call of `run_jobs`: which worker has which job, and how often each clip was tried."""

    def __init__(self, jobs: Sequence[ClipJob], workers: Workers, manifest: Manifest, retries: int, report: Callable):
        self.waiting, self.workers, self.manifest = deque(jobs), workers, manifest
        self.retries, self.report, self.total = retries, report, len(jobs)
        self.running: dict[int, ClipJob] = {}
        self.ready: set[int] = set()
        self.starting: set[int] = set()
        self.attempts = dict.fromkeys((job.name for job in jobs), 0)
        self.fruitless = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Make all clips."""
        for worker in range(min(self.workers.size, self.total)):
            self._start(worker)
        while self.waiting or self.running:
            for worker in sorted(self.ready - self.running.keys()):
                if self.waiting:
                    self.running[worker] = job = self.waiting.popleft()
                    self.attempts[job.name] += 1
                    self.workers.submit(worker, job)
            for event in self.workers.poll():
                self._handle(event)
        return self.outcome

    def stop(self) -> None:
        """End the workers, and remove their unfinished files."""
        self.workers.stop()
        for job in self.running.values():
            _remove_leftovers_of(job)

    def _start(self, worker: int) -> None:
        self.starting.add(worker)
        self.workers.start(worker)

    def _handle(self, event: Event) -> None:
        if event.kind == "broken":
            raise BatchError(event.text)
        if event.kind == "ready":
            self.starting.discard(event.worker)
            self.ready.add(event.worker)
            self.fruitless = 0
        elif event.kind == "lost":
            self._lost(event)
        else:
            job = self.running.pop(event.worker)
            if event.kind == "done":
                self._made(job, event.seconds)
            else:
                self._failed(job, event.text, event.retry)

    def _lost(self, event: Event) -> None:
        self.ready.discard(event.worker)
        if event.worker in self.starting:
            self.fruitless += 1
            if self.fruitless >= FRUITLESS_STARTS:
                raise BatchError(
                    f"{self.fruitless} workers in a row died while loading the model ({event.text}); if memory is too "
                    "small for that many models, use fewer --workers"
                )
        job = self.running.pop(event.worker, None)
        if job is not None:
            _remove_leftovers_of(job)
            if self.manifest.is_done(job):
                self._made(job, event.seconds)  # the worker died between writing the clip and reporting it
            else:
                self._failed(job, f"its worker was lost ({event.text})", True)
        if self.waiting:
            self._start(event.worker)
        else:
            self.starting.discard(event.worker)

    def _made(self, job: ClipJob, seconds: float) -> None:
        self.manifest.done(job, self.attempts[job.name], seconds)
        self.outcome.made.append(job.name)
        self.report(f"{len(self.outcome.made)}/{self.total} {job.output}, {seconds:.1f} s")

    def _failed(self, job: ClipJob, reason: str, retry: bool) -> None:
        tries = self.attempts[job.name]
        if retry and tries <= self.retries:
            log.warning("%s: %s; attempt %d of %d", job.name, reason, tries + 1, self.retries + 1)
            self.waiting.appendleft(job)
            return
        sentence = f"{reason}, after {tries} attempts" if retry else reason
        log.warning("%s failed: %s", job.name, sentence)
        self.outcome.failed[job.name] = sentence
        self.manifest.failed(job, tries, sentence)


def run_jobs(
    jobs: Sequence[ClipJob],
    workers: Workers,
    manifest: Manifest,
    *,
    retries: int = 2,
    report: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Make the clips of `jobs` that the manifest does not list as done, each of them once.

    retries: further attempts at a clip whose worker was lost or failed; a clip with bad input or an output that cannot
    be written is not tried again. `report` gets a line per clip. Raises BatchError if no worker can go on.
    """
    if retries < 0:
        raise ValueError(f"retries must be 0 or more (got {retries}); use 2")
    rest = manifest.remaining(jobs)
    run = BatchRun(rest, workers, manifest, retries, report)
    try:
        return run.run()
    finally:
        run.stop()
        manifest.close()


def _remove_leftovers_of(job: ClipJob) -> None:
    output = Path(job.output)
    remove_leftovers(output.parent, output.name)


class InProcess:
    """The only worker, in this process, for a single device."""

    size = 1

    def __init__(self, load: Callable[[], object], make: Callable[[object, ClipJob], object]) -> None:
        self._load, self._make = load, make
        self._model: object = None
        self._events: list[Event] = []

    def start(self, worker: int) -> None:
        """Load the model now; its errors are raised as they are."""
        self._model = self._load()
        self._events.append(Event(worker, "ready"))

    def submit(self, worker: int, job: ClipJob) -> None:
        """Make the clip now."""
        self._events.append(attempt(worker, lambda: self._make(self._model, job)))

    def poll(self) -> list[Event]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Release the model."""
        self._model = None


def attempt(worker: int, work: Callable[[], object]) -> Event:
    """Do the work and return its event: done, failed for good, failed for now, or broken where the disk is full."""
    start = time.monotonic()
    try:
        work()
    except WriteError as error:
        return Event(worker, "broken" if error.errno in FULL_DISK else "failed", str(error))
    except (ValueError, FileNotFoundError) as error:
        return Event(worker, "failed", str(error))
    except (RuntimeError, MemoryError, OSError) as error:
        return Event(worker, "failed", f"{type(error).__name__}: {error}", retry=True)
    return Event(worker, "done", seconds=time.monotonic() - start)
