"""Clips encoded once and kept on disk: what training reads in place of pictures.

One safetensors file a clip, named by what it was made of (contents of the source, plan, encoders), and one JSON a
source that says which clips it gave. Whatever stops the encoding, what is there is used next time. Each clip holds
its first frame with several strengths of augmentation noise: enough of them that a few hundred steps do not learn the
noise by heart, and the encoders can leave memory.
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
from ...files import remove_leftovers, write_error, write_json
from ...networks.vae import LATENT_SCALE
from ..state import make_folder
from .cutting import ClipPlan, CutReport
from .sources import Source, TrainingClip

log = logging.getLogger("svd_reel")

NOISE_VERSIONS = 4
LEVEL_MEAN, LEVEL_SPREAD = -3.0, 0.5  # of the logarithm of the augmentation, as public fine-tuning code has it
AT_ONCE = 4  # frames in the autoencoder
VERSION = 3


class Encodes(Protocol):
    """A model with its encoders, such as SVDModel."""

    def encode_image(self, image: Tensor) -> Tensor:
        """Tokens [B, 1, D] of images [B, 3, H, W] in -1..1."""

    def encode_latent(self, image: Tensor) -> Tensor:
        """Unscaled latents [B, 4, h, w] of images [B, 3, H, W] in -1..1."""


@dataclass(frozen=True, eq=False)
class CachedClip:
    """Where a clip lies, and its labels."""

    path: Path
    source: str
    fps: float
    bucket: float
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class ClipSet:
    """The clips of a training set, all of one size and length, and what became of every source."""

    clips: tuple[CachedClip, ...]
    reports: tuple[CutReport, ...]
    plan: ClipPlan

    def text(self) -> str:
        """A line for each source and one for all."""
        buckets = sorted(clip.bucket for clip in self.clips)
        total = (
            f"{len(self.clips)} clips of {self.plan.frames} frames {self.plan.width}x{self.plan.height}, motion bucket "
            f"{buckets[0]:.0f} to {buckets[-1]:.0f}, middle {buckets[len(buckets) // 2]:.0f}"
        )
        return "\n".join([*(report.text() for report in self.reports), total])


def encoder_digest(*modules: nn.Module | None) -> str:
    """Return digits that tell encoders apart: by a few of the weights of each module (None: not there)."""
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
) -> ClipSet:
    """Cut and encode every source into `folder`, as far as it is not there yet, and return the clips.

    encoders: digits of `encoder_digest`. `on_clip(source, clips so far)` reports progress and may raise to stop.
    Sources that cannot be read are left out with a warning, unless they are all. ValueError where no clip is left;
    OSError where the folder cannot be written, what is encoded stays.
    """
    make_folder(folder)
    remove_leftovers(folder)
    clips: list[CachedClip] = []
    reports: list[CutReport] = []
    for source in sources:
        try:
            tell = partial(on_clip, source.name) if on_clip else _nobody
            found, report = _encode_source(source, plan, model, folder, encoders, partial(_count, tell, len(clips)))
        except ValueError as error:
            if len(sources) == 1:
                raise
            log.warning("%s; it is left out", error)
            found, report = [], CutReport(source.name, remarks=[f"left out: {error}"])
        if not found and report.frames < plan.frames and not report.remarks:
            report.remarks.append(f"shorter than a clip of {plan.frames} frames: has {report.frames}")
            log.warning("%s", report.text())
        clips += found
        reports.append(report)
    if not clips:
        reasons = "; ".join(report.text() for report in reports[:3])
        raise ValueError(
            f"no clip of {plan.frames} frames is left to train on ({reasons}); give longer videos, fewer frames, a "
            "higher fps, or least motion 0"
        )
    return ClipSet(tuple(clips), tuple(reports), plan)


def _count(tell: Callable[[int], None], before: int, here: int) -> None:
    tell(before + here)


def _nobody(clips: int) -> None:
    pass


def _encode_source(
    source: Source, plan: ClipPlan, model: Encodes, folder: Path, encoders: str, tell: Callable[[int], None]
) -> tuple[list[CachedClip], CutReport]:
    """Clips and report of one source, from its list where that is complete."""
    made_of = {"source": source.fingerprint(), "plan": asdict(plan), "encoders": encoders, "version": VERSION}
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]
    index = folder / f"{key}.json"
    known = _read_index(index, folder)
    if known is not None:
        return known
    report, names = CutReport(source.name), []
    for number, clip in enumerate(source.clips(plan, report)):
        tell(number)
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
    return CachedClip(folder / entry["file"], source, entry["fps"], entry["bucket"], entry["strength"])


def _read_index(index: Path, folder: Path) -> tuple[list[CachedClip], CutReport] | None:
    """What the list of a source says, if every clip of it is there."""
    try:
        stored = json.loads(index.read_text(encoding="utf-8"))
        report = CutReport(**stored["report"])
        clips = [_listed(entry, folder, report.name) for entry in stored["clips"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or of another version: encoded anew
    return (clips, report) if all(clip.path.exists() for clip in clips) else None


@torch.no_grad()
def _encoded(clip: TrainingClip, model: Encodes, seed: int) -> dict[str, Tensor]:
    """Latents of every frame, of the first frame with noise, and the image token."""
    generator = torch.Generator().manual_seed(seed)
    first = clip.frames[:1]
    # A level from each quarter of the distribution, so that few versions cover it.
    quantiles = (torch.arange(NOISE_VERSIONS) + torch.rand(NOISE_VERSIONS, generator=generator)) / NOISE_VERSIONS
    normal = math.sqrt(2) * torch.erfinv((2 * quantiles - 1).clamp(-0.999, 0.999))
    levels = torch.exp(LEVEL_MEAN + LEVEL_SPREAD * normal)  # [N]
    noise = torch.randn(NOISE_VERSIONS, *first.shape[1:], generator=generator)
    noised = first + levels[:, None, None, None] * noise
    rows = torch.cat([clip.frames, noised])
    latents = torch.cat([model.encode_latent(part).cpu() for part in rows.split(AT_ONCE)])
    count = len(clip.frames)
    return {
        # Half precision: its rounding is a hundredth of the faintest augmentation noise.
        "latent": (latents[:count] * LATENT_SCALE).half().contiguous(),
        "concat": latents[count:].half().contiguous(),
        "levels": levels,
        "token": model.encode_image(first)[0, 0].float().cpu().contiguous(),
    }


@contextmanager
def _kept_clips(path: Path) -> Iterator[None]:
    """Say in the error of a full disk that the clips encoded so far are kept."""
    try:
        yield
    except OSError as error:
        wrapped = write_error(path, error)
        kept = OSError(f"{wrapped}; clips that are already encoded are kept and reused by the next run")
        kept.errno = error.errno
        raise kept from error


def read_clip_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a cached clip; ValueError for a file that is none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(
            f"cached clip {path} cannot be read ({error}); delete it and start again, it is then encoded anew"
        ) from error
