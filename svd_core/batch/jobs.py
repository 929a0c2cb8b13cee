"""One clip as plain data that any worker can take, what tells it from every other, and how it is made."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import inspect_checkpoint, load_model
from ..checkpoints.load import read_state_dict
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options, split_lora_option
from ..model.model import SVDModel
from ..networks.config import SVDConfig
from ..pictures import composite, open_picture
from ..pipelines.clip import AnimateSettings, animate
from ..sampling.solvers import Step
from ..version import __version__
from ..video import check_output, write_clip
from .rows import BatchRow

KEY = "batch_key"
"""Under this name the settings inside a clip hold the key of its job, so that a clip proves itself what it is."""

SAMPLED = 4096
"""Bytes of every tensor that the fingerprint of a model reads: training moves all of a tensor's numbers."""


@dataclass(frozen=True)
class ModelSpec:
    """What a worker loads: checkpoint, where, in which precision, on how many CPU threads (None: torch's number).

    loras: texts of the option `--lora`, FILE[:STRENGTH[:TEMPORAL]].
    """

    path: str
    complete_from: str | None = None
    device: str = "cpu"
    dtype: torch.dtype | None = torch.float32
    threads: int | None = None
    loras: tuple[str, ...] = ()

    def load(self) -> SVDModel:
        """The model on its device. Sets the number of threads of this process."""
        if self.threads:
            torch.set_num_threads(self.threads)
        loras = read_lora_options(self.loras)
        model = load_model(self.path, device=self.device, dtype=self.dtype, complete_from=self.complete_from)
        return apply_loras(model, loras)


@dataclass(frozen=True)
class ClipJob:
    """One clip: complete settings, where it goes, and `key`, which changes with anything that changes the clip.

    loras: those of its `ModelSpec`, told inside the clip.
    """

    name: str
    image: str
    settings: AnimateSettings
    output: str
    fps: float
    quality: int
    key: str
    loras: tuple[str, ...] = ()


def fingerprint(path: str | Path, *, half: bool = False) -> str:
    """Hash that tells checkpoints apart wherever they lie: names, shapes and the first bytes of every tensor."""
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
) -> list[ClipJob]:
    """One job per row, everything checked that can be without the model: settings, pictures, places to write.

    suffix: of the clips, such as ".mp4", or "" for folders of PNG frames. playback_fps: None means each row's own fps.
    """
    config = inspect_checkpoint(spec.path).config
    read_lora_options(spec.loras)  # what is wrong with a file is said before any clip is made
    half = spec.dtype == torch.float16
    lender = fingerprint(spec.complete_from, half=half) if spec.complete_from else None
    shared = {"model": fingerprint(spec.path, half=half), "lender": lender, "dtype": str(spec.dtype)}
    if spec.loras:
        chosen = map(split_lora_option, spec.loras)
        shared["loras"] = [[hashlib.sha256(Path(file).read_bytes()).hexdigest(), *rest] for file, *rest in chosen]
    jobs = []
    for row in rows:
        settings = _resolved(row, config)
        output = folder / f"{row.name}{suffix}"
        fps = playback_fps or settings.fps
        check_output(output, fps=fps, quality=quality)
        content = shared | {"settings": asdict(settings), "fps": fps, "quality": quality, "kind": suffix}
        content["image"] = hashlib.sha256(row.image.read_bytes()).hexdigest()
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        jobs.append(ClipJob(row.name, str(row.image), settings, str(output), fps, quality, key, spec.loras))
    return jobs


def _resolved(row: BatchRow, config: SVDConfig) -> AnimateSettings:
    """Complete settings of a row whose picture can be opened; errors say where the row stands."""
    try:
        settings = row.settings.resolve(config)
        composite(open_picture(row.image), settings.background)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{row.where}{error}") from None
    except ValueError as error:
        raise ValueError(f"{row.where}{error}") from None
    return settings


def make_clip(model: SVDModel, job: ClipJob, model_name: str, *, on_step: Callable[[Step], None] | None = None) -> Path:
    """Make the clip of a job and write it; the one way to do so, whoever works."""
    frames = animate(model, open_picture(job.image), job.settings, on_step=on_step)
    metadata: dict[str, Any] = {"image": Path(job.image).name, "model": Path(model_name).name}
    # The version is no part of the key: a clip that is there is not made again for another one.
    metadata |= {"variant": model.variant, "version": __version__, **asdict(job.settings), KEY: job.key}
    metadata |= {"lora": list(job.loras)} if job.loras else {}
    return write_clip(frames, job.output, fps=job.fps, metadata=metadata, quality=job.quality)
