"""The test bench of one model and one photograph, and the results of measurements on it."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

import svd_core as svd
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.report.measuring import measure

from ..nano.photographs import HELD_OUT, load_photograph

CALM, LIVELY = 10, 200  # motion buckets
SEED = 23


@dataclass(frozen=True)
class Row:
    """One row of the table `title`: texts, and whether they meet the target."""

    title: str
    words: tuple[str, ...]
    met: bool


@dataclass
class Found:
    """The results of one measurement: rows of tables, and labelled clips [T, H, W, 3] to look at."""

    rows: list[Row] = field(default_factory=list)
    clips: list[tuple[str, Tensor]] = field(default_factory=list)

    def add(self, title: str, words: tuple[str, ...], met: bool) -> None:
        """Add a row."""
        self.rows.append(Row(title, words, met))


@lru_cache(maxsize=1)
def load(model: str) -> svd.SVDModel:
    """Load a model once in a process."""
    return svd.load_model(model)


class Bench:
    """A photograph at the model's size or another, and clips of it with the settings of the run."""

    def __init__(self, model: str, name: str, steps: int, frames: int, size: tuple[int, int] | None = None) -> None:
        self.model, self.name, self.steps = load(model), Path(name).stem, steps
        self.frames = frames
        config = self.model.config
        self.width, self.height = size or (config.width, config.height)
        self.photograph = load_photograph(name)[None] if name in HELD_OUT else as_batch(open_picture(name))
        self.picture, _ = fit(self.photograph, self.width, self.height)
        self.image = shown(self.picture)  # [H, W, 3]

    def settings(self, **more) -> svd.AnimateSettings:
        """Return the settings of this run, with changes."""
        own = {"steps": self.steps, "seed": SEED, "motion_bucket": LIVELY, "frames": self.frames}
        return svd.AnimateSettings(**(own | {"width": self.width, "height": self.height} | more))

    def clip(self, *, controls: tuple = (), **more) -> Tensor:
        """Animate the photograph: [T, H, W, 3]."""
        return svd.animate(self.model, self.picture, self.settings(**more), controls=controls)

    def round_trip(self, picture: Tensor) -> Tensor:
        """Return a picture [1, 3, H, W] after encoding and decoding, [H, W, 3]: the upper limit for any clip."""
        return shown(self.model.decode(self.model.encode_latent(picture) * LATENT_SCALE))


def shown(picture: Tensor) -> Tensor:
    """Return a picture [1, 3, H, W] in -1..1 as [H, W, 3] in 0..1."""
    return ((picture[0].movedim(0, -1) + 1) / 2).clamp(0, 1)


def psnr(one: Tensor, other: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of values in 0..1, at most 99."""
    error = (one - other).square().mean().clamp(min=10**-9.9)
    return float(-10 * error.log10())


def flow(clip: Tensor) -> float:
    """Return the mean length of the motion from frame to frame, in pixels."""
    return measure(clip.contiguous()).summary()["motion"]


def correlation(asked: list[float], got: list[float]) -> float:
    """Return Pearson's correlation."""
    return float(torch.corrcoef(torch.tensor([asked, got], dtype=torch.float64))[0, 1])
