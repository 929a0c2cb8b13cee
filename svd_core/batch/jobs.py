"""One clip as plain data: everything a worker needs to make it, and a key that changes with anything in it."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..checkpoints import inspect_checkpoint, load_model
from ..checkpoints.controlnet import local_controlnet
from ..checkpoints.load import read_state_dict
from ..checkpoints.networks_by_name import check_networks, load_networks
from ..doctor.profile import follow_profile
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options, split_lora_option
from ..model.model import SVDModel
from ..networks.config import SVDConfig
from ..pictures import composite, open_picture
from ..pipelines.settings import AnimateSettings, settings_metadata
from ..pipelines.steered import (
    FILES,
    NETWORKS,
    check_steering,
    gives_motion,
    open_steering,
    steered_clip,
    steering_metadata,
)
from ..sampling.noise import check_seed
from ..sampling.solvers import Step
from ..version import __version__
from ..video import check_output, write_clip
from .addresses import local_model
from .rows import BatchRow

KEY = "batch_key"
"""Name of the job's key in the settings inside a clip, by which a finished clip is recognised."""

SAMPLED = 4096
"""Bytes of every tensor in the fingerprint of a model: training changes all numbers of a tensor."""

RECENT = 2_000_000_000
"""Nanoseconds for which the time stamp of a file proves nothing: a second change may get the same stamp."""


@dataclass(frozen=True)
class ModelSpec:
    """What a worker loads: checkpoint, device, precision, and CPU threads (None: torch's number).

    loras: texts of the option `--lora`, FILE[:STRENGTH[:TEMPORAL]].
    """

    path: str
    complete_from: str | None = None
    device: str = "cpu"
    dtype: torch.dtype | None = torch.float32
    threads: int | None = None
    loras: tuple[str, ...] = ()

    def load(self) -> SVDModel:
        """Return the model on its device. Sets the number of threads of this process."""
        if self.threads:
            torch.set_num_threads(self.threads)
        loras = read_lora_options(self.loras)
        path, base = local_model(self.path), self.complete_from and local_model(self.complete_from)
        model = load_model(path, device=self.device, dtype=self.dtype, complete_from=base)
        follow_profile(model.device)
        return apply_loras(model, loras)


class PictureFile(NamedTuple):
    """A picture as it was when it was hashed: bytes, time stamp in nanoseconds, SHA-256."""

    size: int
    modified: int
    digest: str


@dataclass(frozen=True)
class ClipJob:
    """One clip: complete settings, output, and `key`, which changes with anything that changes the clip.

    loras: those of its `ModelSpec`, kept in the clip's metadata. picture: of the image, None while it is too new.
    steering: fields of Steering by name, with pictures as paths.
    """

    name: str
    image: str
    settings: AnimateSettings
    output: str
    fps: float
    quality: int
    key: str
    loras: tuple[str, ...] = ()
    picture: PictureFile | None = None
    steering: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(path: str | Path, *, half: bool = False) -> str:
    """Return a hash of a checkpoint, wherever it is stored: names, shapes and the first bytes of every tensor."""
    total = hashlib.sha256()
    for header in read_state_dict(path, half=half).headers:
        with header.path.open("rb") as file:
            for name, entry in sorted(header.entries.items()):
                file.seek(entry.begin)
                total.update(f"{name} {entry.dtype} {entry.shape}".encode())
                total.update(file.read(min(entry.size, SAMPLED)))
    return total.hexdigest()


def plan_jobs(
    rows: Iterable[BatchRow],
    spec: ModelSpec,
    folder: Path,
    suffix: str,
    *,
    playback_fps: float | None = None,
    quality: int = 90,
    listed: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[ClipJob]:
    """Return one job per row, after checking all that can be checked without the model: settings, pictures, outputs.

    suffix: of the clips, such as ".mp4", or "" for folders of PNG frames. playback_fps: None means each row's own fps.
    listed: entries of the manifest; a picture that an entry lists with its present size and time is not read again.
    Errors name the row.
    """
    config = inspect_checkpoint(local_model(spec.path)).config
    read_lora_options(spec.loras)  # raises for a bad file before any clip is made
    shared = _shared_content(spec)
    listed = listed or {}
    outputs, pictures, resolve = _Outputs(folder, quality), _Pictures(listed.values()), _Resolver(config)
    steered = _Steered()
    jobs = []
    for row in rows:
        try:
            settings = resolve(row.settings, gives_motion(row.steering))
            picture, digest = pictures.check(row.image, settings.background)
            steering = steered.check(row.steering, settings)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{row.where}{error}") from None
        except ValueError as error:
            raise ValueError(f"{row.where}{error}") from None
        output, fps = folder / f"{row.name}{suffix}", playback_fps or settings.fps
        content = shared | {"settings": _content_of(settings), "fps": fps, "quality": quality, "kind": suffix}
        content["image"] = digest
        content |= {"steering": steering} if steering else {}
        if config.control_scale != 1 and (settings.camera or steering):
            content["control_scale"] = config.control_scale
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        if listed.get(row.name, {}).get("key") != key:
            outputs.check(output, fps)
        machine = (fps, quality, key, spec.loras, picture, row.steering)
        jobs.append(ClipJob(row.name, str(row.image), settings, str(output), *machine))
    return jobs


def _shared_content(spec: ModelSpec) -> dict[str, Any]:
    """Return what all keys of a batch are made of: the model, its precision and the LoRAs."""
    half = spec.dtype == torch.float16
    base = fingerprint(local_model(spec.complete_from), half=half) if spec.complete_from else None
    # "lender" is the first version's name for --complete-from; another one would change all keys.
    shared = {"model": fingerprint(local_model(spec.path), half=half), "lender": base, "dtype": str(spec.dtype)}
    if spec.loras:
        chosen = map(split_lora_option, spec.loras)
        shared["loras"] = [[hashlib.sha256(Path(file).read_bytes()).hexdigest(), *rest] for file, *rest in chosen]
    return shared


FIRST_SETTINGS = frozenset(
    ("width", "height", "frames", "steps", "motion_bucket", "fps", "augmentation", "min_guidance", "max_guidance")
    + ("guidance_shape", "schedule", "sigma_min", "sigma_max", "solver", "seed", "fit", "background", "decode")
    + ("camera", "camera_mode", "camera_strength", "windows", "window_overlap", "extend", "extend_overlap", "reuse")
    + ("reuse_depth", "reuse_sigma_low", "reuse_sigma_high")
)
"""Settings of the first version, which every key contains. Later ones count only where they differ from the default,
so that a new setting does not change the keys of clips that do not use it."""

_DEFAULTS = {field.name: field.default for field in fields(AnimateSettings)}


def _content_of(settings: AnimateSettings) -> dict[str, Any]:
    values = vars(settings)
    return {name: value for name, value in values.items() if name in FIRST_SETTINGS or value != _DEFAULTS[name]}


class _Resolver:
    """`AnimateSettings.resolve` for rows that mostly differ in the seed, which nothing else depends on."""

    def __init__(self, config: SVDConfig) -> None:
        self._config = config
        self._known: dict[tuple, AnimateSettings] = {}

    def __call__(self, settings: AnimateSettings, steered: bool) -> AnimateSettings:
        values = (steered, *(value for name, value in vars(settings).items() if name != "seed"))
        if values not in self._known:
            self._known[values] = settings.resolve(self._config, steered=steered)
        check_seed(settings.seed)
        known = self._known[values]
        return known if known.seed == settings.seed else replace(known, seed=settings.seed)


class _Pictures:
    """Opens and hashes every picture file once; one that is listed with its present size and time not at all."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._start = time.time_ns()
        self._files: dict[Path, tuple[str, int, int]] = {}
        self._known: dict[tuple[str, int, int], str] = {}
        self._backgrounds: set[str | tuple[float, ...]] = set()
        for entry in entries:
            match entry:
                case {"image": str(image), "picture": [int(size), int(modified), str(digest)]}:
                    self._known[image, size, modified] = digest

    def check(self, path: Path, background: str | tuple[float, float, float]) -> tuple[PictureFile | None, str]:
        """Return the picture's file, None if it is too new to be listed, and its SHA-256.

        Raises FileNotFoundError, or ValueError for a file that is not a picture or an unknown background colour.
        """
        if path not in self._files:
            self._files[path] = self._stat(path)
        name = self._files[path]
        if name not in self._known:
            composite(open_picture(path), background)
            self._known[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif background not in self._backgrounds:
            composite(torch.zeros(1, 1, 1, 4), background)
            self._backgrounds.add(background)
        digest, (_, size, modified) = self._known[name], name
        return None if self._start - modified < RECENT else PictureFile(size, modified, digest), digest

    @staticmethod
    def _stat(path: Path) -> tuple[str, int, int]:
        try:
            found = os.stat(path)
        except OSError:
            open_picture(path)  # raises the sentence for a file that cannot be read
            raise
        return str(path), found.st_size, found.st_mtime_ns


class _Steered:
    """Checks the steering of rows, and replaces pictures by their SHA-256; equal steering is checked once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def check(self, given: Mapping[str, Any], settings: AnimateSettings) -> dict[str, Any]:
        """Return what the key of a clip contains of its steering. Raises what `check_steering` raises."""
        if not given and not settings.camera:
            return {}
        name = json.dumps([given, settings.camera, settings.extend, settings.windows], sort_keys=True)
        if name not in self._known:
            check_networks(given)
            check_steering(open_steering(given), settings)
            self._known[name] = {key: _content(key, value) for key, value in given.items()}
        return self._known[name]


def _content(name: str, value: Any) -> Any:
    """Return what a key contains of one field: hashes of files, of networks only a part; else the value."""
    if name in NETWORKS:
        return fingerprint(local_controlnet(value) if name == "controlnet" else value)
    return _digests(value) if name in FILES else value


def _digests(paths: str | list[str]) -> list[str]:
    several = paths if isinstance(paths, list) else [paths]
    return [_digest(Path(path)) for path in several]


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of the files in a folder of frames."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    parts = (
        file.name.encode() + hashlib.sha256(file.read_bytes()).digest()
        for file in sorted(path.iterdir())
        if file.is_file()
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


class _Outputs:
    """`check_output` for many clips of one folder, without a test file on the disk for each."""

    def __init__(self, folder: Path, quality: int) -> None:
        self._quality = quality
        self._present = {entry.name for entry in os.scandir(folder)}
        self._rates: set[float] = set()
        self._longest = 0

    def check(self, output: Path, fps: float) -> None:
        """Raise what `check_output` raises where this clip can differ from those before: rate, name, what exists."""
        length = len(os.fsencode(output.name))
        if fps in self._rates and length <= self._longest and output.name not in self._present:
            return
        check_output(output, fps=fps, quality=self._quality)
        self._rates.add(fps)
        self._longest = max(self._longest, length)


def make_clip(model: SVDModel, job: ClipJob, model_name: str, *, on_step: Callable[[Step], None] | None = None) -> Path:
    """Make the clip of a job and write it. All workers do it by this function."""
    steering = open_steering(load_networks(job.steering, model))
    frames = steered_clip(model, open_picture(job.image), job.settings, steering, on_step=on_step)
    metadata: dict[str, Any] = {"image": Path(job.image).name, "model": Path(model_name).name}
    # The version is not part of the key: clips of an earlier version are not made again.
    metadata |= {"variant": model.variant, "version": __version__, **settings_metadata(job.settings), KEY: job.key}
    metadata |= steering_metadata(job.steering) | ({"lora": list(job.loras)} if job.loras else {})
    return write_clip(frames, job.output, fps=job.fps, metadata=metadata, quality=job.quality)
