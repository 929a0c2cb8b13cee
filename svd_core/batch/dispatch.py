"""Give jobs to workers, retry clips whose worker was lost, and list the results in the manifest."""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from ..files import WriteError, remove_leftovers
from ..finish.stream import format_duration
from .jobs import ClipJob
from .manifest import Manifest

log = logging.getLogger("svd_reel")

FRUITLESS_STARTS = 3
"""Workers that may die in a row before any of them has loaded the model; then the batch ends."""

SILENCE = 10.0
"""Seconds without a line after which `notice` gets one."""

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
    """Workers, local processes or others. `size` is how many there may be now, which can change."""

    @property
    def size(self) -> int:
        """The number of workers that there may be now, at least 1."""

    def start(self, worker: int) -> None:
        """Start a worker, without waiting for it; it reports `ready` later."""

    def submit(self, worker: int, job: ClipJob) -> None:
        """Give a job to a ready worker."""

    def poll(self) -> list[Event]:
        """Return the events since the last call, after a short wait if there are none."""

    def release(self, worker: int) -> None:
        """Mark a ready worker as finished, so that it may end; it gets no further job."""

    def needs(self) -> str:
        """Return what a worker needs that is starting, and whether it is there; "" where there is nothing to say."""

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

    def __init__(
        self,
        jobs: Sequence[ClipJob],
        workers: Workers,
        manifest: Manifest,
        retries: int,
        report: Callable[[str], None],
        notice: Callable[[str], None],
        on_made: Callable[[ClipJob], None],
    ) -> None:
        self.waiting, self.workers, self.manifest = deque(jobs), workers, manifest
        self.retries, self.report, self.notice, self.total = retries, report, notice, len(jobs)
        self.on_made = on_made
        self.running: dict[int, ClipJob] = {}
        self.ready: set[int] = set()
        self.starting: set[int] = set()
        self.attempts = dict.fromkeys((job.name for job in jobs), 0)
        self.fruitless = 0
        self.outcome = Outcome()
        self.told = time.monotonic()  # when a line was reported last
        self.first_ready: float | None = None

    def run(self) -> Outcome:
        """Make all clips."""
        while self.waiting or self.running:
            self._resize()
            for worker in sorted(self.ready - self.running.keys()):
                if self.waiting:
                    self.running[worker] = job = self.waiting.popleft()
                    self.attempts[job.name] += 1
                    self.workers.submit(worker, job)
            for event in self.workers.poll():
                self._handle(event)
            if time.monotonic() - self.told >= SILENCE:
                self.told = time.monotonic()
                self.notice(self.status())
        return self.outcome

    def status(self) -> str:
        """Return what is done and running, what workers wait for, and the time that is left, in one line."""
        done = len(self.outcome.made) + len(self.outcome.failed)
        parts = [f"{done}/{self.total} clips done", f"{len(self.running)} running"]
        if self.starting:
            needs = self.workers.needs()
            noun = "worker" if len(self.starting) == 1 else "workers"
            parts.append(f"{len(self.starting)} {noun} starting" + (f" ({needs})" if needs else ""))
        if done and self.first_ready is not None:
            rate = (time.monotonic() - self.first_ready) / done
            parts.append(f"about {format_duration(rate * (self.total - done))} left")
        return ", ".join(parts)

    def _resize(self) -> None:
        """Start as many workers as there may be and is work for; release those that will have none."""
        wanted = min(self.workers.size, len(self.waiting) + len(self.running))
        for worker in count():
            if len(self.ready) + len(self.starting) >= wanted:
                break
            if worker not in self.ready and worker not in self.starting:
                self._start(worker)
        if not self.waiting:
            for worker in self.ready - self.running.keys():
                self.ready.discard(worker)
                self.workers.release(worker)

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
            self.first_ready = self.first_ready or time.monotonic()
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
        self.starting.discard(event.worker)

    def _made(self, job: ClipJob, seconds: float) -> None:
        self.manifest.done(job, self.attempts[job.name], seconds)
        self.on_made(job)
        self.outcome.made.append(job.name)
        self.told = time.monotonic()
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
    elsewhere: Mapping[str, int] | None = None,
    report: Callable[[str], None] = lambda text: None,
    notice: Callable[[str], None] = lambda text: None,
    on_made: Callable[[ClipJob], None] = lambda job: None,
) -> Outcome:
    """Make the clips of `jobs` that the manifest does not list as done, each of them once.

    retries: further attempts at a clip whose worker was lost or failed; a clip with bad input or an output that cannot
    be written is not tried again. elsewhere: see `Manifest.remaining`. `report` gets a line per clip, `notice` one on
    the state of all after 10 s without any, `on_made` every job whose clip is listed as done. Raises BatchError if no
    worker can go on.
    """
    if retries < 0:
        raise ValueError(f"retries must be 0 or more (got {retries}); use 2")
    rest = manifest.remaining(jobs, elsewhere)
    run = BatchRun(rest, workers, manifest, retries, report, notice, on_made)
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

    def release(self, worker: int) -> None:
        """Keep the model until `stop`, which follows at once."""

    def needs(self) -> str:
        """Return nothing: this process is there."""
        return ""

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
