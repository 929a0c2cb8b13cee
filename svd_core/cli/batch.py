"""`python -m svd_core batch INPUT --output DIR`: many clips, with resume."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..batch.dispatch import InProcess, Outcome, Workers, run_jobs
from ..batch.jobs import ModelSpec, make_clip, plan_jobs
from ..batch.local import LocalProcesses
from ..batch.manifest import Manifest
from ..batch.rows import read_rows
from ..files import write_error
from ..storyboard.tables import first_repeated
from ..video.target import FILE_KINDS
from .models import DTYPES
from .options import add_lora_option

log = logging.getLogger("svd_reel")

SOME_FAILED = 1


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `batch`."""
    parser.description = (
        "Make a clip of every row of a folder of pictures, a .csv table or a .json list, all with the same "
        "model and LoRAs. What is done is kept in manifest.json in the output folder: the same command again makes "
        "only what is missing or changed, and all clips anew with another LoRA or strength."
    )
    parser.set_defaults(run=run_batch)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="folder of pictures; or .csv or .json with `image`, optional `name` and any setting of animate per row",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the clips and the manifest")
    parser.add_argument(
        "--model", default="nano", metavar="nano|FILE|FOLDER", help="checkpoint (default: the embedded nano)"
    )
    parser.add_argument("--complete-from", metavar="FILE", help="full checkpoint that lends the parts --model lacks")
    add_lora_option(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="setting of all rows that do not have it"
    )
    parser.add_argument(
        "--kind", choices=(*FILE_KINDS, "frames"), default="mp4", help="files, or folders of PNG frames (default: mp4)"
    )
    parser.add_argument("--playback-fps", type=float, metavar="FPS", help="of the files (default: each row's fps)")
    parser.add_argument("--quality", type=int, default=90, metavar="0..100", help="of mp4, webm and webp (default: 90)")
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes, each with its own model (default: one per GPU, else one)"
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads of each (default: the cores shared out); clips are equal bit for bit at the same number",
    )
    group.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS", help="use Ray: on this machine, or of the cluster at ADDRESS"
    )
    group.add_argument("--retries", type=int, default=2, metavar="N", help="further attempts at a clip (default: 2)")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: all GPUs, else the CPU)")
    group.add_argument("--dtype", choices=tuple(DTYPES), help="precision (default: float16 on CUDA, else float32)")
    group.add_argument("--quiet", action="store_true", help="no progress and no warnings")


def run_batch(options: argparse.Namespace) -> None:
    """Make what is missing; exits with 1 if some clips could not be made."""
    if options.quiet:
        log.setLevel(logging.ERROR)
    if options.retries < 0:
        raise ValueError(f"--retries is {options.retries}; use 0 for none, or 2")
    rows, specs = read_rows(options.input, _shared(options.set)), _specs(options)
    with _folder(Path(options.output)) as folder:
        jobs = plan_jobs(
            rows,
            specs[0],
            folder,
            "" if options.kind == "frames" else f".{options.kind}",
            playback_fps=options.playback_fps,
            quality=options.quality,
        )
        manifest = Manifest(folder)
        rest = len(manifest.remaining(jobs))
    _say(options, f"{len(jobs)} clips, {len(jobs) - rest} of them done already")
    if rest:
        outcome = run_jobs(
            jobs,
            _workers(options, specs, rest),
            manifest,
            retries=options.retries,
            report=lambda text: _say(options, text),
        )
        _finish(options, outcome)
    for job in jobs:
        if manifest.clips[job.name]["status"] == "done":
            print(job.output, flush=True)
    if any(manifest.clips[job.name]["status"] != "done" for job in jobs):
        raise SystemExit(SOME_FAILED)


def _finish(options: argparse.Namespace, outcome: Outcome) -> None:
    _say(options, f"{len(outcome.made)} clips made")
    for name, why in outcome.failed.items():
        print(f"svd_core: {name} was not made: {why}", file=sys.stderr)


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """The folder, made if it is missing; what was made is removed again where the batch is refused."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output {path} is a file; give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from None
    try:
        yield path
    except BaseException:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _shared(texts: Sequence[str]) -> dict[str, Any]:
    """The settings of `--set`, each given once."""
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
    """What each worker loads."""
    gpus = torch.cuda.device_count()
    if options.device == "auto":
        devices = [f"cuda:{index}" for index in range(gpus)] or ["cpu"]
    else:
        devices = [options.device]
        try:
            torch.empty(1, device=options.device)
        except (RuntimeError, AssertionError):  # torch without CUDA raises AssertionError
            raise ValueError(f"device {options.device} is not there; use cpu, or leave --device out") from None
    for name, value in (("workers", options.workers), ("threads", options.threads)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; use at least 1")
    count = options.workers or len(devices)
    on_cpu = devices[0] == "cpu"
    threads = options.threads
    if threads is None and on_cpu and options.ray is not None:
        threads = 1
    elif threads is None and on_cpu and count > 1:
        threads = max(1, (os.cpu_count() or 1) // count)
        log.warning(
            "%d workers share %d cores, %d threads each; clips equal those of other runs bit for bit at the same "
            "--threads only, since sums depend on it in the last digit",
            count,
            os.cpu_count() or 1,
            threads,
        )
    dtype = DTYPES[options.dtype or ("float16" if devices[0].startswith("cuda") else "float32")]
    spec = ModelSpec(options.model, options.complete_from, dtype=dtype, threads=threads, loras=tuple(options.lora))
    return [replace(spec, device=devices[index % len(devices)]) for index in range(count)]


def _workers(options: argparse.Namespace, specs: list[ModelSpec], clips: int) -> Workers:
    if options.ray is not None:
        from ..batch.through_ray import RayActors

        # Ray shows every actor its own GPU as the first.
        spec = replace(specs[0], device="cuda" if specs[0].device.startswith("cuda") else specs[0].device)
        return RayActors(spec, options.workers, options.ray or None)
    if len(specs) == 1:
        return InProcess(specs[0].load, lambda model, job: make_clip(model, job, specs[0].path))
    return LocalProcesses(specs[:clips])
