"""Hands jobs to workers and keeps the books: who has what, what was lost, how often a clip may be tried again."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .jobs import ClipJob
from .manifest import Manifest

log = logging.getLogger("svd_reel")

FRUITLESS_STARTS = 3
"""Workers that may die one after another before any of them is ready; then it is not chance."""


@dataclass(frozen=True)
class Event:
    """News of a worker: `ready` (model loaded), `done`, `failed` (`retry`: it may work next time), `lost` (the worker
    is gone), or `broken` (the model cannot be loaded anywhere).
    """

    worker: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    retry: bool = False


class Workers(Protocol):
    """A fixed number of places for workers, local processes or elsewhere."""

    size: int

    def start(self, worker: int) -> None:
        """Begin to start the worker of this place, which says `ready` later."""

    def submit(self, worker: int, job: ClipJob) -> None:
        """Give a ready worker a job."""

    def poll(self) -> list[Event]:
        """What has happened since; waits a moment if nothing has."""

    def stop(self) -> None:
        """End all workers."""


class BatchError(ValueError):
    """The batch as a whole cannot go on."""


@dataclass
class Outcome:
    """Names of clips made now, and the sentences of those that failed."""

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class _Books:
    """One run of `run_jobs`."""

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
        for worker in range(min(self.workers.size, self.total)):
            self._start(worker)
        while self.waiting or self.running:
            for worker in sorted(self.ready - self.running.keys()):
                if self.waiting:
                    self.running[worker] = job = self.waiting.popleft()
                    self.attempts[job.name] += 1
                    self.workers.submit(worker, job)
            for event in self.workers.poll():
                self._take(event)
        return self.outcome

    def _start(self, worker: int) -> None:
        self.starting.add(worker)
        self.workers.start(worker)

    def _take(self, event: Event) -> None:
        if event.kind == "broken":
            raise BatchError(event.text)
        if event.kind == "ready":
            self.starting.discard(event.worker)
            self.ready.add(event.worker)
            self.fruitless = 0
            return
        if event.kind == "lost":
            self._lost(event)
            return
        job = self.running.pop(event.worker)
        if event.kind == "done":
            self._made(job, event.seconds)
        else:
            self._again(job, event.text, event.retry)

    def _lost(self, event: Event) -> None:
        self.ready.discard(event.worker)
        if event.worker in self.starting:
            self.fruitless += 1
            if self.fruitless >= FRUITLESS_STARTS:
                raise BatchError(
                    f"{self.fruitless} workers in a row died before they had loaded the model ({event.text}); "
                    "the model may not fit in memory so many times, use fewer --workers"
                )
        job = self.running.pop(event.worker, None)
        if job is not None and self.manifest.is_done(job):
            self._made(job, event.seconds)  # it died between writing the clip and saying so
        elif job is not None:
            self._again(job, f"its worker was lost ({event.text})", True)
        if self.waiting:
            self._start(event.worker)
        else:
            self.starting.discard(event.worker)

    def _made(self, job: ClipJob, seconds: float) -> None:
        self.manifest.done(job, self.attempts[job.name], seconds)
        self.outcome.made.append(job.name)
        self.report(f"{len(self.outcome.made)}/{self.total} {job.output}, {seconds:.1f} s")

    def _again(self, job: ClipJob, why: str, retry: bool) -> None:
        tries = self.attempts[job.name]
        if retry and tries <= self.retries:
            log.warning("%s: %s; attempt %d of %d", job.name, why, tries + 1, self.retries + 1)
            self.waiting.appendleft(job)
            return
        sentence = f"{why}, after {tries} attempts" if retry else why
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
    """Make the clips of `jobs` that the manifest does not know as done; every clip is made once.

    retries: how often one clip may be tried again after its worker was lost or ran out of luck; what is wrong with the
    input itself is not tried again. `report` is told a line per clip. Raises BatchError if no worker can work.
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}; use 0 for none, or 2")
    rest = manifest.remaining(jobs)
    try:
        return _Books(rest, workers, manifest, retries, report).run() if rest else Outcome()
    finally:
        workers.stop()


class InProcess:
    """The one worker of this process, for a single device."""

    size = 1

    def __init__(self, load: Callable[[], object], make: Callable[[object, ClipJob], object]) -> None:
        self._load, self._make = load, make
        self._model: object = None
        self._events: list[Event] = []

    def start(self, worker: int) -> None:
        """Load the model here; what is wrong with it is raised as it is."""
        self._model = self._load()
        self._events.append(Event(worker, "ready"))

    def submit(self, worker: int, job: ClipJob) -> None:
        """Do the job at once."""
        self._events.append(attempt(worker, lambda: self._make(self._model, job)))

    def poll(self) -> list[Event]:
        """News since the last call."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Let go of the model."""
        self._model = None


def attempt(worker: int, work: Callable[[], object]) -> Event:
    """Do the work and say how it went: `done`, or `failed`, to be retried unless the input is at fault."""
    start = time.monotonic()
    try:
        work()
    except (ValueError, FileNotFoundError) as error:
        return Event(worker, "failed", str(error))
    except (RuntimeError, MemoryError, OSError) as error:
        return Event(worker, "failed", f"{type(error).__name__}: {error}", retry=True)
    return Event(worker, "done", seconds=time.monotonic() - start)
