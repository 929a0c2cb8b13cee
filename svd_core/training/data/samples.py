"""What the trainer learns from: one clip as latents with its conditions, and where such samples come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One clip.

    latent: [T, 4, h, w], scaled by 0.18215. concat: [4, h, w], the unscaled latent of the noise-augmented first frame.
    token: [D], the image encoder's. vector: [V], embedded numbers such as fps and motion bucket.
    sigma_limit: noise levels are drawn below it only; None for the whole range. strength: at which a LoRA is to learn
    the clip; -1 for clips that show the opposite of what it shall do.
    """

    latent: Tensor
    concat: Tensor
    token: Tensor
    vector: Tensor
    sigma_limit: float | None = None
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Samples of one shape in one tensor each: [B, T, 4, h, w], [B, 4, h, w], [B, D], [B, V]; limits [B] on the CPU."""

    latent: Tensor
    concat: Tensor
    token: Tensor
    vector: Tensor
    sigma_limit: Tensor | None = None
    strength: float = 1.0

    def __len__(self) -> int:
        return len(self.latent)

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same batch as float32 on a device; nothing is copied where it is so already."""
        parts = (self.latent, self.concat, self.token, self.vector)
        moved = [part.to(device, torch.float32, non_blocking=True) for part in parts]
        return TrainingBatch(*moved, sigma_limit=self.sigma_limit, strength=self.strength)


class SampleSource(Protocol):
    """Gives samples by number. The same number and generator state give the same sample, so that training can resume.

    A source whose samples differ in shape also has `batch(step, count, generator)`, which returns samples of one shape
    (a list, or a TrainingBatch) for the `count` asked for; more or fewer are taken as they come.
    """

    def sample(self, index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index` (0, 1, ...); random choices come from `generator` alone."""
        ...


def stack_samples(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Put samples of one shape into a batch; raises ValueError where they differ."""
    shapes = {tuple(sample.latent.shape) for sample in samples}
    if len(shapes) != 1:
        raise ValueError(
            f"{len(samples)} samples of a batch have {len(shapes)} shapes ({sorted(shapes)[:2]}); "
            "use batch 1, or clips of one size"
        )
    if len({sample.strength for sample in samples}) != 1:
        raise ValueError("samples of a batch have several strengths; let the source offer batches of one strength")
    limits = [float("inf") if sample.sigma_limit is None else sample.sigma_limit for sample in samples]
    limited = any(sample.sigma_limit is not None for sample in samples)
    return TrainingBatch(
        *(torch.stack([getattr(s, part) for s in samples]) for part in ("latent", "concat", "token", "vector")),
        sigma_limit=torch.tensor(limits, dtype=torch.float64) if limited else None,
        strength=samples[0].strength,
    )
