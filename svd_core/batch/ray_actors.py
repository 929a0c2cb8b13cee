"""Workers as Ray actors, on one machine or many: one actor per GPU, with the model in its memory.

This is the only file that imports Ray, an optional extra. Pictures are sent with the jobs and clips come back with the
results, so that the machines need no shared disk, only the model (or nano) and the LoRAs at the same paths.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..files import replacing, write_error
from ..pipelines.steered import FILES, NETWORKS
from .dispatch import BatchError, Event, attempt
from .jobs import ClipJob, ModelSpec, make_clip

PAUSE = 0.05
"""Seconds to wait for events of the actors."""

RECOUNT = 5.0
"""Seconds between two queries of the cluster's resources."""


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

    def make(self, job: ClipJob, pictures: Mapping[str, bytes]) -> tuple[Event, dict[str, bytes]]:
        """Make the clip in a temporary folder and return its files by name, "" for a single file.

        pictures: the contents of all pictures of the job, by their paths on the machine that sent it.
        """
        with TemporaryDirectory(prefix="svd_reel") as folder:
            output = Path(folder) / "clip" / Path(job.output).name
            output.parent.mkdir()
            moved = {path: str(Path(folder, str(number), Path(path).name)) for number, path in enumerate(pictures)}
            for path, content in pictures.items():
                Path(moved[path]).parent.mkdir()
                Path(moved[path]).write_bytes(content)
            steering = {name: _moved(name, value, moved) for name, value in job.steering.items()}
            here = replace(job, image=moved[job.image], output=str(output), steering=steering)
            event = attempt(self.worker, lambda: make_clip(self.model, here, self.spec.path))
            return event, _pack(output) if event.kind == "done" else {}


class RayCluster:
    """A connection to Ray, opened once; resources are queried from the cluster, not from this machine."""

    def __init__(self, address: str | None = None) -> None:
        """Connect. address: of a running cluster, "auto" to find it, None to start Ray on this machine only."""
        self.ray = _ray()
        self._started = not self.ray.is_initialized()
        if self._started:
            self._connect(address)

    def _connect(self, address: str | None) -> None:
        # Without an address Ray would join any cluster that runs on this machine.
        quiet = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
        try:
            # Ray sends this package to the other machines.
            environment = {"py_modules": [str(Path(__file__).parent.parent)]} if address else None
            self.ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **quiet)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise BatchError(
                f"cannot connect to Ray at {address or 'this machine'} ({error}); start it with `ray start --head`"
            ) from None

    def total(self, resource: str) -> int:
        """Return how many of a resource, "GPU" or "CPU", all machines of the cluster have now."""
        return int(self.ray.cluster_resources().get(resource, 0))

    def free(self, resource: str) -> int:
        """Return how many of a resource no one uses now."""
        return int(self.ray.available_resources().get(resource, 0))

    def close(self) -> None:
        """End Ray, if it was started here."""
        if self._started:
            self.ray.shutdown()


class RayActors:
    """Actors on all machines of a cluster, as many as it has room for; a lost one is replaced where there is room.

    Their number follows the cluster: machines that join get actors, and idle actors end, so that an autoscaler can
    remove their machines.
    """

    def __init__(
        self, spec: ModelSpec, cluster: RayCluster, size: int | None = None, *, resource: str | None = None
    ) -> None:
        """Use a cluster.

        size: number of actors, asked for even if the cluster must grow; None for one per GPU or core of the cluster.
        resource: what an actor needs, "GPU" or "CPU"; by default a GPU where spec.device is "cuda".
        """
        self.spec, self.cluster, self._ray, self._asked = spec, cluster, cluster.ray, size
        self.resource = resource or ("GPU" if spec.device.startswith("cuda") else "CPU")
        self.each = 1 if self.resource == "GPU" else spec.threads or 1
        # A restart by Ray itself would hide the loss from BatchRun, which decides what is tried again.
        needs = {"num_gpus": 1, "num_cpus": 1} if self.resource == "GPU" else {"num_cpus": self.each}
        self._class = self._ray.remote(max_restarts=0, max_task_retries=0, **needs)(_Actor)
        self._actors: dict[int, Any] = {}
        self._requests: dict[Any, tuple[int, ClipJob | None]] = {}
        self._size, self._counted = 1, -math.inf

    @property
    def size(self) -> int:
        """The number of actors that the cluster has room for now; at least 1, which an autoscaler makes room for."""
        if self._asked is not None:
            return self._asked
        if time.monotonic() - self._counted >= RECOUNT:
            self._size = max(1, self.cluster.total(self.resource) // self.each)
            self._counted = time.monotonic()
        return self._size

    def needs(self) -> str:
        """Return what an actor needs and how much of it the cluster has, as text."""
        total, free = self.cluster.total(self.resource), self.cluster.free(self.resource)
        wanted = f"{self.each} {self.resource}{'s' if self.each > 1 else ''} each"
        if total < self.each:
            return f"{wanted}; the cluster has {total} and must grow"
        return f"{wanted}; {free} of {total} free"

    def release(self, worker: int) -> None:
        """End an idle actor, so that its machine is free."""
        self._ray.kill(self._actors.pop(worker))

    def start(self, worker: int) -> None:
        """Request an actor, which loads the model and reports `ready`."""
        actor = self._actors[worker] = self._class.remote(worker, self.spec)
        self._requests[actor.load.remote()] = (worker, None)

    def submit(self, worker: int, job: ClipJob) -> None:
        """Send a job with its pictures."""
        pictures = {path: Path(path).read_bytes() for path in (job.image, *_paths_of(job.steering))}
        result = self._actors[worker].make.remote(job, pictures)
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
        self.cluster.close()


def _paths_of(steering: Mapping[str, Any]) -> list[str]:
    """Return the paths of all pictures in the steering of a job; networks are read where the model is."""
    found = [steering[name] for name in FILES if name in steering and name not in NETWORKS]
    return [path for value in found for path in (value if isinstance(value, list) else [value])]


def _moved(name: str, value: Any, moved: Mapping[str, str]) -> Any:
    if name not in FILES or name in NETWORKS:
        return value
    return [moved[path] for path in value] if isinstance(value, list) else moved[value]


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
