"""Workers that are Ray actors, on one machine or many: an actor per GPU with its model in memory.

The only file that knows Ray, which is an optional extra. Pictures travel with the jobs and clips with the answers, so
that machines need no common disk, only the model (or the embedded one) and LoRAs at the same path.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..files import replacing
from .dispatch import BatchError, Event, attempt
from .jobs import ClipJob, ModelSpec, make_clip

PAUSE = 0.05
"""Seconds that one look at the actors may wait for news."""


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BatchError('Ray is not installed; run `pip install "svd-reel[ray]"`, or use --workers') from None
    return ray


class _Actor:
    """What runs in the actor's process."""

    def __init__(self, worker: int, spec: ModelSpec) -> None:
        self.worker, self.spec = worker, spec
        self.model: Any = None

    def load(self) -> Event:
        """Load the model, on the GPU that Ray gave this actor."""
        try:
            self.model = self.spec.load()
        except (ValueError, OSError) as error:
            return Event(self.worker, "broken", str(error))
        return Event(self.worker, "ready")

    def make(self, job: ClipJob, picture: bytes) -> tuple[Event, dict[str, bytes]]:
        """Make the clip in a folder of this machine; its files by relative name ("" for a single one) come back."""
        with TemporaryDirectory(prefix="svd_reel") as folder:
            image = Path(folder) / "picture" / Path(job.image).name
            output = Path(folder) / "clip" / Path(job.output).name
            image.parent.mkdir()
            output.parent.mkdir()
            image.write_bytes(picture)
            here = replace(job, image=str(image), output=str(output))
            event = attempt(self.worker, lambda: make_clip(self.model, here, self.spec.path))
            return event, _pack(output) if event.kind == "done" else {}


class RayActors:
    """One actor per place; a lost one (its process, or its whole machine) is replaced wherever there is room."""

    def __init__(self, spec: ModelSpec, size: int | None = None, address: str | None = None) -> None:
        """spec.device: "cuda" for a GPU per actor, else a CPU core each. size: None is one per GPU of the cluster.

        address: of a running cluster, "auto" to find it, None to start Ray on this machine alone.
        """
        self.spec, self._ray = spec, _ray()
        self._began = not self._ray.is_initialized()
        if self._began:
            self._connect(address)
        resource = "GPU" if spec.device.startswith("cuda") else "CPU"
        self.size = size or max(1, int(self._ray.cluster_resources().get(resource, 1)))
        # A restart by Ray itself would hide a loss from our books, which decide what may be tried again.
        needs = {"num_gpus": 1, "num_cpus": 1} if resource == "GPU" else {"num_cpus": spec.threads or 1}
        self._class = self._ray.remote(max_restarts=0, max_task_retries=0, **needs)(_Actor)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, tuple[int, ClipJob | None]] = {}

    def _connect(self, address: str | None) -> None:
        # Without an address Ray would join any cluster that happens to run here, and not send this package along.
        quiet = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
        try:
            # Actors on other machines must find this package: it is sent along.
            environment = {"py_modules": [str(Path(__file__).parent.parent)]} if address else None
            self._ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **quiet)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise BatchError(
                f"Ray cannot be reached at {address or 'this machine'} ({error}); start it first"
            ) from None

    def start(self, worker: int) -> None:
        """Ask for an actor, which loads the model and says `ready`."""
        actor = self._actors[worker] = self._class.remote(worker, self.spec)
        self._asked[actor.load.remote()] = (worker, None)

    def submit(self, worker: int, job: ClipJob) -> None:
        """Send a job with its picture."""
        answer = self._actors[worker].make.remote(job, Path(job.image).read_bytes())
        self._asked[answer] = (worker, job)

    def poll(self) -> list[Event]:
        """News of all actors; finished clips are put in their place here."""
        if not self._asked:
            time.sleep(PAUSE)
            return []
        answers, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=PAUSE)
        return [self._news(answer) for answer in answers]

    def _news(self, answer: Any) -> Event:
        worker, job = self._asked.pop(answer)
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._actors.pop(worker, None)
            first = (str(error).strip().splitlines() or [""])[0]
            return Event(worker, "lost", f"{type(error).__name__}: {first}")
        if job is None:
            return said
        event, files = said
        if event.kind == "done":
            _unpack(files, Path(job.output))
        return event

    def stop(self) -> None:
        """End the actors, and Ray itself where it was started here."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._asked = {}, {}
        if self._began:
            self._ray.shutdown()


def _pack(output: Path) -> dict[str, bytes]:
    if output.is_file():
        return {"": output.read_bytes()}
    return {file.name: file.read_bytes() for file in sorted(output.iterdir())}


def _unpack(files: Mapping[str, bytes], output: Path) -> None:
    """Write the clip as the actor wrote it, whole or not at all."""
    with replacing(output) as temporary:
        if set(files) == {""}:
            temporary.write_bytes(files[""])
            return
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
