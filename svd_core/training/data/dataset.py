"""Cached clips as the trainer asks for them: sample by number, the same whenever it is asked again."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...model.conditioning import motion_vector
from .cache import ClipSet, read_clip_tensors
from .samples import TrainingSample

KEPT_BYTES = 2**30  # of clips in memory; more are read from disk each time
MOST_LABEL = 1000  # frame rate or motion bucket; SVD was trained up to about 30 and 255


def check_labels(bucket: float | None, fps: float | None) -> None:
    """Raise ValueError for labels that no clip can be told by; None stands for measured ones."""
    if bucket is not None and not 0 <= bucket <= MOST_LABEL:
        raise ValueError(
            f"motion bucket {bucket:g} of the clips is outside 0 to {MOST_LABEL}; use 1 to 255, such as 127"
        )
    if fps is not None and not 1 <= fps <= MOST_LABEL:
        raise ValueError(f"label fps {fps:g} of the clips is outside 1 to {MOST_LABEL}; use 6 to 30, such as 7")


class ClipSource:
    """The clips of a set in an order that is shuffled anew in every round, with one of their noised first frames.

    bucket, fps: labels given in place of the measured ones. both_ways: whether clips of the opposite camera move are
    learned too, with strength -1, which only a LoRA can. The labels that the network sees are fps - 1, the bucket, and
    the deviation of the noise that the first frame was encoded with.
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
            self.batch = self._batch_of_one_strength  # only then: the trainer's own order visits every clip alike

    def __len__(self) -> int:
        return len(self.clips)

    def sample(self, index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index`; the generator chooses the noise version."""
        return self._sample(range(len(self.clips)), index, generator)

    def _batch_of_one_strength(self, step: int, count: int, generator: torch.Generator) -> list[TrainingSample]:
        """Return samples of one strength; the strengths take turns from step to step."""
        strengths = sorted({clip.strength for clip in self.clips}, reverse=True)
        wanted = strengths[step % len(strengths)]
        numbers = [number for number, clip in enumerate(self.clips) if clip.strength == wanted]
        first = int(torch.randint(2**31, (), generator=generator))
        return [self._sample(numbers, first + offset, generator) for offset in range(count)]

    def _sample(self, numbers: Sequence[int], index: int, generator: torch.Generator) -> TrainingSample:
        """Sample number `index` of a shuffled round through some of the clips."""
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
