"""Workers as Ray actors, on one machine or many: one actor per GPU, with the model in its memory.

This is the only file that imports Ray, an optional extra. Pictures are sent with the jobs and clips come back with the
results, so that the machines need no shared disk, only the model (or nano) and the LoRAs at the same paths.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..files import replacing, write_error
from .dispatch import BatchError, Event, attempt
from .jobs import ClipJob, ModelSpec, make_clip

PAUSE = 0.05
"""Seconds to wait for events of the actors."""


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BatchError('Ray is not installed; run `pip install "svd-reel[ray]"`, or use --workers') from None
    return ray


class _Actor:
    """The actor, in its own process."""

    def __init__(self, worker: int, spec: ModelSpec) -> None:
        self.worker, self.spec = worker, spec
        self.model: Any = None

    def load(self) -> Event:
        """Load the model on the GPU that Ray assigned to this actor."""
        try:
            self.model = self.spec.load()
        except (ValueError, OSError) as error:
            return Event(self.worker, "broken", str(error))
        return Event(self.worker, "ready")

    def make(self, job: ClipJob, picture: bytes) -> tuple[Event, dict[str, bytes]]:
        """Make the clip in a temporary folder and return its files by name, "" for a single file."""
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
    """A fixed number of actors; one lost with its process or machine is replaced wherever there is room."""

    def __init__(self, spec: ModelSpec, size: int | None = None, address: str | None = None) -> None:
        """Connect to Ray. spec.device: "cuda" asks for one GPU per actor, anything else for CPU cores.

        size: number of actors, None for one per GPU (or core) of the cluster. address: of a running cluster, "auto" to
        find it, None to start Ray on this machine only.
        """
        self.spec, self._ray = spec, _ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            self._connect(address)
        resource = "GPU" if spec.device.startswith("cuda") else "CPU"
        self.size = size or max(1, int(self._ray.cluster_resources().get(resource, 1)))
        # A restart by Ray itself would hide the loss from BatchRun, which decides what is tried again.
        needs = {"num_gpus": 1, "num_cpus": 1} if resource == "GPU" else {"num_cpus": spec.threads or 1}
        self._class = self._ray.remote(max_restarts=0, max_task_retries=0, **needs)(_Actor)
        self._actors: dict[int, Any] = {}
        self._requests: dict[Any, tuple[int, ClipJob | None]] = {}

    def _connect(self, address: str | None) -> None:
        # Without an address Ray would join any cluster that runs on this machine.
        quiet = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
        try:
            # Ray sends this package to the other machines.
            environment = {"py_modules": [str(Path(__file__).parent.parent)]} if address else None
            self._ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **quiet)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise BatchError(
                f"cannot connect to Ray at {address or 'this machine'} ({error}); start it with `ray start --head`"
            ) from None

    def start(self, worker: int) -> None:
        """Request an actor, which loads the model and reports `ready`."""
        actor = self._actors[worker] = self._class.remote(worker, self.spec)
        self._requests[actor.load.remote()] = (worker, None)

    def submit(self, worker: int, job: ClipJob) -> None:
        """Send a job with its picture."""
        result = self._actors[worker].make.remote(job, Path(job.image).read_bytes())
        self._requests[result] = (worker, job)

    def poll(self) -> list[Event]:
        """Return the events of all actors; finished clips are written here."""
        if not self._requests:
            time.sleep(PAUSE)
            return []
        results, _ = self._ray.wait(list(self._requests), num_returns=len(self._requests), timeout=PAUSE)
        return [self._event_of(result) for result in results]

    def _event_of(self, result: Any) -> Event:
        worker, job = self._requests.pop(result)
        try:
            value = self._ray.get(result)
        except self._ray.exceptions.RayError as error:
            self._actors.pop(worker, None)
            first = (str(error).strip().splitlines() or [""])[0]
            return Event(worker, "lost", f"{type(error).__name__}: {first}")
        if job is None:
            return value
        event, files = value
        if event.kind == "done":
            _unpack(files, Path(job.output))
        return event

    def stop(self) -> None:
        """End the actors, and Ray itself if it was started here."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._requests = {}, {}
        if self._started:
            self._ray.shutdown()


def _pack(output: Path) -> dict[str, bytes]:
    if output.is_file():
        return {"": output.read_bytes()}
    return {file.name: file.read_bytes() for file in sorted(output.iterdir())}


def _unpack(files: Mapping[str, bytes], output: Path) -> None:
    """Write the clip that an actor made, whole or not at all."""
    try:
        with replacing(output) as temporary:
            if set(files) == {""}:
                temporary.write_bytes(files[""])
                return
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).write_bytes(content)
    except OSError as error:
        raise write_error(output, error) from error
