"""Training samples: clips as latents with their conditions, drawn from the cache and stacked into batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...model.conditioning import motion_vector
from ..settings import TrainSettings
from .cache import ClipSet, read_clip_tensors

KEPT_BYTES = 2**30  # of clips kept in memory; others are read from disk each time
MOST_LABEL = 1000  # highest frame rate or motion bucket of a label; SVD was trained up to about 30 and 255


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One clip.

    latent: [T, 4, h, w], scaled by 0.18215. concat: [4, h, w], unscaled latent of the noise-augmented first frame.
    token: [D], from the image encoder. vector: [V], embedded numbers such as fps and motion bucket. sigma_limit:
    highest noise level to draw; None for the whole range. strength: of a LoRA while it learns the clip; -1 for clips
    that show the opposite of what the LoRA should do.
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
        """Return the batch as float32 on a device, without a copy if it is there already."""
        parts = (self.latent, self.concat, self.token, self.vector)
        moved = [part.to(device, torch.float32, non_blocking=True) for part in parts]
        return TrainingBatch(*moved, sigma_limit=self.sigma_limit, strength=self.strength)


class SampleSource(Protocol):
    """Samples by number. The same number and generator state give the same sample, so that training can resume.

    A source whose samples differ in shape also has `batch(step, count, generator)`, which returns about `count`
    samples of one shape, as a list or a TrainingBatch.
    """

    def sample(self, index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index` (0, 1, ...). Random choices come from `generator` only."""
        ...


def stack_samples(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Return samples of one shape and strength as a batch. Raises ValueError where they differ."""
    shapes = {tuple(sample.latent.shape) for sample in samples}
    if len(shapes) != 1:
        raise ValueError(
            f"samples of a batch must have one shape (got {len(shapes)}: {sorted(shapes)[:2]}); use batch 1, or clips "
            "of one size"
        )
    if len({sample.strength for sample in samples}) != 1:
        raise ValueError(
            "samples of a batch must have one strength; give the source a `batch` method that returns one strength only"
        )
    limits = [float("inf") if sample.sigma_limit is None else sample.sigma_limit for sample in samples]
    limited = any(sample.sigma_limit is not None for sample in samples)
    return TrainingBatch(
        *(torch.stack([getattr(s, part) for s in samples]) for part in ("latent", "concat", "token", "vector")),
        sigma_limit=torch.tensor(limits, dtype=torch.float64) if limited else None,
        strength=samples[0].strength,
    )


def check_labels(bucket: float | None, fps: float | None) -> None:
    """Validate manually given labels; None means "measure it"."""
    if bucket is not None and not 0 <= bucket <= MOST_LABEL:
        raise ValueError(
            f"the motion bucket of the clips must be 0 to {MOST_LABEL} (got {bucket:g}); use 1 to 255, such as 127"
        )
    if fps is not None and not 1 <= fps <= MOST_LABEL:
        raise ValueError(f"the label fps of the clips must be 1 to {MOST_LABEL} (got {fps:g}); use 6 to 30, such as 7")


class ClipSource:
    """The clips of a set, shuffled again in every round, each with one of its noised first frames.

    bucket, fps: labels instead of the measured ones. both_ways: whether to learn clips of the opposite camera move too,
    with strength -1; only a LoRA can. The network gets fps - 1, the bucket, and the standard deviation of the noise
    that the first frame was encoded with.
    """

    def __init__(
        self,
        clips: ClipSet,
        *,
        bucket: float | None = None,
        fps: float | None = None,
        seed: int = 0,
        both_ways: bool = True,
    ) -> None:
        check_labels(bucket, fps)
        self.clips = tuple(clip for clip in clips.clips if both_ways or clip.strength == 1)
        self.bucket, self.fps, self.seed = bucket, fps, seed
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._bytes = 0
        if len({clip.strength for clip in self.clips}) > 1:
            self.batch = self._batch_of_one_strength  # otherwise the trainer's own order visits all clips equally

    def __len__(self) -> int:
        return len(self.clips)

    def sample(self, index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index`. The generator chooses the noise version."""
        return self._sample(range(len(self.clips)), index, generator)

    def _batch_of_one_strength(self, step: int, count: int, generator: torch.Generator) -> list[TrainingSample]:
        """Return samples of one strength, which alternates from step to step."""
        strengths = sorted({clip.strength for clip in self.clips}, reverse=True)
        wanted = strengths[step % len(strengths)]
        numbers = [number for number, clip in enumerate(self.clips) if clip.strength == wanted]
        first = int(torch.randint(2**31, (), generator=generator))
        return [self._sample(numbers, first + offset, generator) for offset in range(count)]

    def _sample(self, numbers: Sequence[int], index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index` of shuffled rounds through the clips of these numbers."""
        round_, place = divmod(index, len(numbers))
        shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + round_)
        number = numbers[int(torch.randperm(len(numbers), generator=shuffle)[place])]
        clip, tensors = self.clips[number], self._tensors(number)
        version = int(torch.randint(len(tensors["levels"]), (), generator=generator))
        vector = motion_vector(
            (clip.fps if self.fps is None else self.fps) - 1,
            clip.bucket if self.bucket is None else self.bucket,
            tensors["levels"][version],
        )
        return TrainingSample(
            latent=tensors["latent"].float(),
            concat=tensors["concat"][version].float(),
            token=tensors["token"],
            vector=vector[0],
            strength=clip.strength,
        )

    def _tensors(self, number: int) -> dict[str, Tensor]:
        if number in self._kept:
            return self._kept[number]
        tensors = read_clip_tensors(self.clips[number].path)
        size = sum(part.nbytes for part in tensors.values())
        if self._bytes + size <= KEPT_BYTES:
            self._kept[number] = tensors
            self._bytes += size
        return tensors


def seeded(seed: int, *place: int | str) -> torch.Generator:
    """Return a CPU generator for one place of a run, such as a step and the name of what is drawn."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_batch(source: SampleSource, settings: TrainSettings, step: int, part: int) -> TrainingBatch:
    """Return the clips of forward pass `part` of the passes that step `step` accumulates."""
    count = settings.batch
    if hasattr(source, "batch"):
        found = source.batch(step, count, seeded(settings.seed, step, part, "clips"))
        return found if isinstance(found, TrainingBatch) else stack_samples(found)
    first = (step * settings.accumulation + part) * count
    numbers = range(first, first + count)
    return stack_samples([source.sample(number, seeded(settings.seed, number, "clip")) for number in numbers])
