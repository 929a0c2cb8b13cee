"""`svd-reel batch INPUT --output DIR`: make many clips, and continue after an interruption."""

import argparse
import logging
import os
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from ..batch.addresses import copy_of, file_system, is_address, locator
from ..batch.dispatch import InProcess, Workers, run_jobs
from ..batch.jobs import ClipJob, ModelSpec, make_clip, plan_jobs
from ..batch.local import LocalProcesses
from ..batch.manifest import NAME, Manifest
from ..batch.rows import BatchRow, read_rows
from ..files import remove_leftovers, write_error
from ..model.devices import DTYPES, dtype_named, pick_device
from ..storyboard.tables import first_repeated
from ..video.target import FILE_KINDS
from .models import computing_device
from .options import add_model_options, dtype_of
from .progress import Progress
from .signals import Terminated, is_terminated

if TYPE_CHECKING:
    from ..batch.ray_actors import RayCluster
    from ..batch.remote_folder import RemoteFolder

log = logging.getLogger("svd_reel")

SOME_FAILED = 1


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `batch`."""
    parser.description = (
        "Make a clip of every row of a folder of pictures, a .csv table or a .json list, all with the same model and "
        f"LoRAs. {NAME} in the output folder lists what is done: the same command again makes only the clips that are "
        "missing or changed, and all of them after a change of the model, a LoRA or its strength."
    )
    parser.set_defaults(run=run_batch)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="folder of pictures; or .csv or .json with `image`, optional `name` and any setting of animate per row",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the clips and the manifest")
    add_model_options(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting for all rows that do not give it, such as steps=20. Repeat the option for several settings",
    )
    parser.add_argument(
        "--kind",
        choices=(*FILE_KINDS, "frames"),
        default="mp4",
        help="file type, or folders of PNG frames (default: mp4)",
    )
    parser.add_argument(
        "--playback-fps", type=float, metavar="FPS", help="frames per second of the files (default: each row's fps)"
    )
    parser.add_argument(
        "--quality",
        type=int,
        default=90,
        metavar="0..100",
        help="quality of mp4, webm and webp; higher is better and larger (default: 90)",
    )
    _add_worker_options(parser.add_argument_group("workers"))


def _add_worker_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes, each with its own copy of the model (default: one per GPU, else one)",
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads of each worker. Clips are equal bit for bit only at the same number (default: the cores "
        "divided by the workers)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="use Ray: on this machine, or on the cluster at ADDRESS (auto, HOST:PORT, ray://HOST:PORT). --device and "
        "--dtype are then those of the workers, and their number follows the cluster",
    )
    group.add_argument(
        "--retries", type=int, default=2, metavar="N", help="further attempts at a clip that failed (default: 2)"
    )
    group.add_argument(
        "--device",
        default="auto",
        help="device to compute on: cpu, cuda, cuda:1, mps, xpu (default: all CUDA GPUs, else the fastest)",
    )
    group.add_argument(
        "--dtype",
        type=dtype_of,
        metavar="auto|" + "|".join(DTYPES),
        help="precision of the weights; stored keeps that of the file. auto takes float16 on CUDA, and on MPS and XPU "
        "after a short test of its error there, else float32 (default: auto)",
    )
    group.add_argument("--quiet", action="store_true", help="print no progress and no warnings")


def run_batch(options: argparse.Namespace) -> int:
    """Make the clips that are missing. Return 1 if some could not be made, else 0."""
    if options.quiet:
        log.setLevel(logging.ERROR)
    if options.retries < 0:
        raise ValueError(f"--retries must be 0 or more (got {options.retries}); use 2")
    with TemporaryDirectory(prefix="svd_reel") as copies:
        rows = _rows(options, Path(copies))
        cluster = _cluster(options)
        specs = _specs(options) if cluster is None else [_cluster_spec(options, cluster)]
        with _output_folder(options.output) as (folder, remote), Progress(options.quiet) as progress:
            remove_leftovers(folder)
            manifest = Manifest(folder)
            suffix = "" if options.kind == "frames" else f".{options.kind}"
            given = {"playback_fps": options.playback_fps, "quality": options.quality, "listed": manifest.clips}
            jobs = plan_jobs(rows, specs[0], folder, suffix, **given)
            moved = _moved(jobs, manifest, remote, options.kind)
            rest = manifest.remaining(jobs, moved)
            progress.say(f"{len(jobs)} clips, {len(jobs) - len(rest)} of them done already")
            _upload_left(jobs, rest, moved, remote)
            if rest:
                on_made = None if remote is None else lambda job: remote.upload(job.output)
                workers = _workers(options, specs, len(rest), cluster)
                _make(options, rest, workers, manifest, progress, moved, on_made)
            if remote is not None:
                remote.finish()
    return _print_outputs(jobs, manifest, remote)


def _rows(options: argparse.Namespace, copies: Path) -> list[BatchRow]:
    """Read the rows; files behind addresses are copied into `copies`."""
    for option in ("output", "model", "complete_from"):
        if is_address(getattr(options, option)):
            file_system(getattr(options, option))  # a wrong scheme is found before anything is copied
    source = copy_of(options.input, copies / "input") if is_address(options.input) else Path(options.input)
    base = posixpath.dirname(options.input) if is_address(options.input) else source.parent
    return read_rows(source, _shared_settings(options.set), locate=locator(base, copies / "pictures"))


def _moved(
    jobs: Sequence[ClipJob], manifest: Manifest, remote: "RemoteFolder | None", kind: str
) -> dict[str, int] | None:
    """Return the sizes of finished clips that are behind the address of the output folder."""
    if remote is None:
        return None
    if kind == "frames":
        raise ValueError("--kind frames makes folders, which an address cannot hold; use mp4, webm or webp")
    return remote.elsewhere(manifest, {Path(job.output).name for job in jobs})


def _upload_left(
    jobs: Sequence[ClipJob], rest: Sequence[ClipJob], moved: dict[str, int] | None, remote: "RemoteFolder | None"
) -> None:
    """Upload finished clips that are still on this machine, because an earlier upload failed."""
    if remote is None:
        return
    missing = {job.name for job in rest}
    for job in jobs:
        if job.name not in missing and Path(job.output).exists() and Path(job.output).name not in (moved or {}):
            remote.upload(job.output)


def _make(
    options: argparse.Namespace,
    jobs: list[ClipJob],
    workers: Workers,
    manifest: Manifest,
    progress: Progress,
    moved: dict[str, int] | None,
    on_made: Callable[[ClipJob], None] | None,
) -> None:
    """Make the clips of `jobs`, and print those that failed. After Ctrl-C the error says how to go on."""
    made = 0

    def report(line: str) -> None:
        nonlocal made
        made += 1
        progress.say(line)
        progress.count("clips", made, len(jobs), unit="clip")

    calls: dict[str, Any] = {"report": report, "notice": progress.say, "elsewhere": moved}
    calls |= {} if on_made is None else {"on_made": on_made}
    try:
        outcome = run_jobs(jobs, workers, manifest, retries=options.retries, **calls)
    except KeyboardInterrupt as stop:
        kind = Terminated if is_terminated(stop) else KeyboardInterrupt
        raise kind(
            f"stopped; {made} of {len(jobs)} clips are done and stay, the same command again makes the rest"
        ) from stop
    progress.say(f"{len(outcome.made)} clips made")
    for name, why in outcome.failed.items():
        print(f"svd_core: {name} was not made: {why}", file=sys.stderr)


def _print_outputs(jobs: list[ClipJob], manifest: Manifest, remote: "RemoteFolder | None") -> int:
    """Print the path or address of every finished clip; return the exit code."""
    done = [job for job in jobs if manifest.clips[job.name]["status"] == "done"]
    for job in done:
        print(job.output if remote is None else remote.address_of(job.output))
    return SOME_FAILED if len(done) < len(jobs) else 0


@contextmanager
def _output_folder(output: str) -> Iterator[tuple[Path, "RemoteFolder | None"]]:
    """Yield the output folder and, if it stands before an address, what is behind it.

    It is made if it is missing; if the batch fails, new folders that are empty are removed.
    """
    if is_address(output):
        from ..batch.remote_folder import RemoteFolder

        remote = RemoteFolder(output)
        yield remote.folder, remote
        return
    path = Path(output)
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output {path} is a file; give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from None
    try:
        yield path, None
    except BaseException:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _shared_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of --set by name. Raises ValueError for one without a value or given twice."""
    pairs = [_pair(text) for text in texts]
    twice = first_repeated(name for name, _ in pairs)
    if twice is not None:
        raise ValueError(f"--set {twice} is given twice; leave one of them out")
    return dict(pairs)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text} has no value; write --set frames=14")
    return name.strip(), value


def _specs(options: argparse.Namespace) -> list[ModelSpec]:
    """Return what each worker loads."""
    _check_counts(options)
    if options.device == "auto":
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or [str(pick_device("auto"))]
    else:
        devices = [str(computing_device(options.device))]
    count = options.workers or len(devices)
    threads = _threads(options, count) if devices[0] == "cpu" else options.threads
    dtype = DTYPES[dtype_named(options.dtype, torch.device(devices[0]))]
    spec = ModelSpec(options.model, options.complete_from, dtype=dtype, threads=threads, loras=tuple(options.lora))
    return [replace(spec, device=devices[index % len(devices)]) for index in range(count)]


def _check_counts(options: argparse.Namespace) -> None:
    for name, value in (("workers", options.workers), ("threads", options.threads)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be 1 or more (got {value}); use 1")


def _threads(options: argparse.Namespace, count: int) -> int | None:
    """Return the CPU threads of each of `count` workers on the CPU; None leaves the number to torch."""
    if options.threads is not None or count == 1:
        return options.threads
    cores = os.cpu_count() or 1
    threads = max(1, cores // count)
    log.warning(
        "%d workers share %d cores, %d threads each; clips are equal bit for bit only at the same --threads, because "
        "the number of threads changes sums in the last digit",
        count,
        cores,
        threads,
    )
    return threads


def _workers(options: argparse.Namespace, specs: list[ModelSpec], clips: int, cluster: "RayCluster | None") -> Workers:
    if cluster is not None:
        from ..batch.ray_actors import RayActors

        return RayActors(specs[0], cluster, options.workers)
    if len(specs) == 1:
        return InProcess(specs[0].load, lambda model, job: make_clip(model, job, specs[0].path))
    return LocalProcesses(specs[:clips])


def _cluster(options: argparse.Namespace) -> "RayCluster | None":
    """Return the connection that --ray asks for."""
    if options.ray is None:
        return None
    from ..batch.ray_actors import RayCluster

    return RayCluster(options.ray or None)


def _cluster_spec(options: argparse.Namespace, cluster: "RayCluster") -> ModelSpec:
    """Return what each actor loads. Devices are those of the cluster: this machine may have none."""
    _check_counts(options)
    device = options.device
    if device == "auto":
        device = "cuda" if cluster.total("GPU") else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device {device} does not go with --ray, which assigns the devices; use cuda, cpu or auto")
    dtype = DTYPES[dtype_named(options.dtype, torch.device(device))]
    threads = options.threads if device == "cuda" else options.threads or 1
    loras = tuple(options.lora)
    return ModelSpec(options.model, options.complete_from, device, dtype, threads, loras)
