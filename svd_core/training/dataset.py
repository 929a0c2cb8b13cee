"""Cached clips as the trainer asks for them: sample by number, the same whenever it is asked again."""

import torch
from torch import Tensor

from ..conditioning import motion_vector
from .cache import ClipSet, read_clip_tensors
from .sample import TrainingSample

KEPT_BYTES = 2**30  # of clips in memory; more are read from disk each time


class ClipSource:
    """The clips of a set in an order that is shuffled anew in every round, with one of their noised first frames.

    bucket, fps: labels given in place of the measured ones. The labels that the network sees are fps - 1, the bucket,
    and the deviation of the noise that the first frame was encoded with.
    """

    def __init__(self, clips: ClipSet, *, bucket: float | None = None, fps: float | None = None, seed: int = 0) -> None:
        self.clips, self.bucket, self.fps, self.seed = clips.clips, bucket, fps, seed
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.clips)

    def sample(self, index: int, generator: torch.Generator) -> TrainingSample:
        """Return sample number `index`; the generator chooses the noise version."""
        round_, place = divmod(index, len(self.clips))
        shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + round_)
        number = int(torch.randperm(len(self.clips), generator=shuffle)[place])
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
            sigma_limit=None,
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
