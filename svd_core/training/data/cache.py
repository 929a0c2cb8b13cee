"""Clips encoded once and cached on disk, so that training needs no pictures and no encoders in memory.

Each clip is a safetensors file named by the hash of its source, plan and encoders, and each source has a JSON file
that lists its clips. An interrupted encoding continues from the clips that exist. A clip holds its first frame with
several levels of augmentation noise, so that a few hundred steps do not learn one noise by heart.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...checkpoints.writing import write_tensors
from ...files import is_number, read_json, remove_leftovers, write_error, write_json
from ...networks.vae import LATENT_SCALE
from ..state import make_folder
from .cutting import ClipPlan, CutReport
from .sources import Source, TrainingClip

log = logging.getLogger("svd_reel")

NOISE_VERSIONS = 4
LEVEL_MEAN, LEVEL_SPREAD = -3.0, 0.5  # of the logarithm of the augmentation, as in public fine-tuning code
AT_ONCE = 4  # frames per call of the encoder
VERSION = 3
MOST_LABEL = 1e6  # of frame rates, motion buckets and strengths in an index


class Encodes(Protocol):
    """A model with its encoders, such as SVDModel."""

    def encode_image(self, image: Tensor) -> Tensor:
        """Return tokens [B, 1, D] of images [B, 3, H, W] in -1..1."""

    def encode_latent(self, image: Tensor) -> Tensor:
        """Return unscaled latents [B, 4, h, w] of images [B, 3, H, W] in -1..1."""


@dataclass(frozen=True, eq=False)
class CachedClip:
    """The file of an encoded clip, and its labels."""

    path: Path
    source: str
    fps: float
    bucket: float
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class ClipSet:
    """The clips of a training set, all of one size and length, and a report on every source."""

    clips: tuple[CachedClip, ...]
    reports: tuple[CutReport, ...]
    plan: ClipPlan

    def text(self) -> str:
        """Return a line for each source and one for all."""
        buckets = sorted(clip.bucket for clip in self.clips)
        total = (
            f"{len(self.clips)} clips of {self.plan.frames} frames {self.plan.width}x{self.plan.height}, motion bucket "
            f"{buckets[0]:.0f} to {buckets[-1]:.0f}, median {buckets[len(buckets) // 2]:.0f}"
        )
        return "\n".join([*(report.text() for report in self.reports), total])


def encoder_digest(*modules: nn.Module | None) -> str:
    """Return a digest of encoders from a few weights of each module; None means that an encoder is missing."""
    digest = hashlib.sha256()
    for module in modules:
        weights = [] if module is None else list(module.parameters())
        for weight in weights[:: max(1, len(weights) // 8)]:
            digest.update(weight.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def encode_sources(
    sources: list[Source],
    plan: ClipPlan,
    model: Encodes,
    folder: Path,
    *,
    encoders: str,
    on_clip: Callable[[str, int], None] | None = None,
    on_frame: Callable[[], None] | None = None,
) -> ClipSet:
    """Cut and encode every source into `folder`, skipping what is cached there, and return the clips.

    encoders: result of `encoder_digest`. on_clip(source, clips so far): reports progress; may raise to stop.
    on_frame: called for every frame that is read; may raise to stop. A source
    that cannot be read is left out with a warning, unless it is the only one. Raises ValueError where no clip is left,
    and OSError where the folder cannot be written; encoded clips are kept.
    """
    make_folder(folder)
    remove_leftovers(folder)
    clips: list[CachedClip] = []
    reports: list[CutReport] = []
    for source in sources:
        try:
            on_number = partial(_report, on_clip, source.name, len(clips))
            found, report = _encode_source(source, plan, model, folder, encoders, on_number, on_frame)
        except ValueError as error:
            if len(sources) == 1:
                raise
            log.warning("%s; the source is left out", error)
            found, report = [], CutReport(source.name, remarks=[f"left out: {error}"])
        if not found and report.frames < plan.frames and not report.remarks:
            report.remarks.append(f"too short for a clip of {plan.frames} frames (has {report.frames})")
            log.warning("%s", report.text())
        clips += found
        reports.append(report)
    if not clips:
        reasons = "; ".join(report.text() for report in reports[:3])
        raise ValueError(
            f"no clip of {plan.frames} frames is left to train on ({reasons}); use longer videos, fewer frames, "
            "a higher fps, or least motion 0"
        )
    return ClipSet(tuple(clips), tuple(reports), plan)


def _report(on_clip: Callable[[str, int], None] | None, source: str, before: int, number: int) -> None:
    if on_clip is not None:
        on_clip(source, before + number)


def _encode_source(
    source: Source,
    plan: ClipPlan,
    model: Encodes,
    folder: Path,
    encoders: str,
    on_number: Callable[[int], None],
    on_frame: Callable[[], None] | None = None,
) -> tuple[list[CachedClip], CutReport]:
    """Return clips and report of one source, from its index if that is complete."""
    content = {"source": source.fingerprint(), "plan": asdict(plan), "encoders": encoders, "version": VERSION}
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    index = folder / f"{key}.json"
    known = _read_index(index, folder)
    if known is not None:
        return known
    report, names = CutReport(source.name), []
    report.on_frame = on_frame or report.on_frame
    for number, clip in enumerate(source.clips(plan, report)):
        on_number(number)
        path = folder / f"{key}-{number:05d}.safetensors"
        if not path.exists():
            seed = int(key[:12], 16) + number
            notes = {"fps": repr(clip.fps), "bucket": repr(clip.bucket)}
            tensors = _encoded(clip, model, seed)
            with _kept_clips(path):
                write_tensors(path, tensors, notes)
        names.append({"file": path.name, "fps": clip.fps, "bucket": clip.bucket, "strength": clip.strength})
    with _kept_clips(index):
        write_json(index, {"report": asdict(report), "clips": names})
    return [_listed(entry, folder, source.name) for entry in names], report


def _listed(entry: dict, folder: Path, source: str) -> CachedClip:
    """Return a clip from its entry in an index; raise ValueError for a file elsewhere or numbers that are none."""
    name, numbers = entry["file"], (entry["fps"], entry["bucket"], entry["strength"])
    if Path(name).name != name or not all(is_number(number, MOST_LABEL) for number in numbers):
        raise ValueError("not an entry of the cache")
    return CachedClip(folder / name, source, *numbers)


def _read_index(index: Path, folder: Path) -> tuple[list[CachedClip], CutReport] | None:
    """Return clips and report from the index of a source, or None if it or one of its clips is missing."""
    try:
        stored = read_json(index)
        report = CutReport(**stored["report"])
        clips = [_listed(entry, folder, report.name) for entry in stored["clips"]]
        report.text()
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, damaged or of another version: encoded again
    return (clips, report) if all(clip.path.exists() for clip in clips) else None


@torch.no_grad()
def _encoded(clip: TrainingClip, model: Encodes, seed: int) -> dict[str, Tensor]:
    """Return the latents of all frames, those of the first frame with noise, the noise levels and the image token."""
    generator = torch.Generator().manual_seed(seed)
    first = clip.frames[:1]
    # One level from each quarter of the distribution, so that four versions cover it.
    quantiles = (torch.arange(NOISE_VERSIONS) + torch.rand(NOISE_VERSIONS, generator=generator)) / NOISE_VERSIONS
    normal = math.sqrt(2) * torch.erfinv((2 * quantiles - 1).clamp(-0.999, 0.999))
    levels = torch.exp(LEVEL_MEAN + LEVEL_SPREAD * normal)  # [N]
    noise = torch.randn(NOISE_VERSIONS, *first.shape[1:], generator=generator)
    noised = first + levels[:, None, None, None] * noise
    rows = torch.cat([clip.frames, noised])
    latents = torch.cat([model.encode_latent(part).cpu() for part in rows.split(AT_ONCE)])
    count = len(clip.frames)
    return {
        # Half precision rounds by a hundredth of the faintest augmentation noise.
        "latent": (latents[:count] * LATENT_SCALE).half().contiguous(),
        "concat": latents[count:].half().contiguous(),
        "levels": levels,
        "token": model.encode_image(first)[0, 0].float().cpu().contiguous(),
    }


@contextmanager
def _kept_clips(path: Path) -> Iterator[None]:
    """Add to the error of a full disk that the clips encoded so far are kept."""
    try:
        yield
    except OSError as error:
        wrapped = write_error(path, error)
        kept = OSError(f"{wrapped}; clips that are already encoded are kept and reused by the next run")
        kept.errno = error.errno
        raise kept from error


def read_clip_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a cached clip. Raises ValueError for a damaged file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(
            f"cached clip {path} cannot be read ({error}); delete it and start again to encode it anew"
        ) from error
