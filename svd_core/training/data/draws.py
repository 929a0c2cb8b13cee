"""Random numbers and clips of one place of a run, functions of the seed and the place alone."""

import hashlib

import torch

from ..settings import TrainSettings
from .samples import SampleSource, TrainingBatch, stack_samples


def seeded(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place of a run, for example a step and what is drawn there."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_batch(source: SampleSource, settings: TrainSettings, step: int, part: int) -> TrainingBatch:
    """The clips of one forward pass: number `part` of the passes that step `step` accumulates."""
    count = settings.batch
    if hasattr(source, "batch"):
        found = source.batch(step, count, seeded(settings.seed, step, part, "clips"))
        return found if isinstance(found, TrainingBatch) else stack_samples(found)
    first = (step * settings.accumulation + part) * count
    numbers = range(first, first + count)
    return stack_samples([source.sample(number, seeded(settings.seed, number, "clip")) for number in numbers])
