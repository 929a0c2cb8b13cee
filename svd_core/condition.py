"""What the denoiser is conditioned on: image token, latent and motion vector, plus the feature cache between steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass
class DeepFeatures:
    """Inner UNet features of one clip, cached in one step and reused in the next (DeepCache).

    depth: number of outer block pairs that run in every pass; a pair is one input block and its output block.
    cached: features of the inner blocks, one row per frame. A pass that finds None runs all blocks and fills it; a pass
    that finds a tensor uses it instead of running the inner blocks.
    rows: frames whose features are cached at once per condition, for planning memory.
    """

    depth: int
    cached: Tensor | None = None
    rows: int = 0


class Region(NamedTuple):
    """Other motion numbers for a part of the picture: a vector [1|T, V], and its share [1|T, 1, h, w] in 0..1."""

    vector: Tensor
    share: Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """Conditioning of one clip. Each part has one row for all frames, or one row per frame.

    token: [1|T, n, D], context tokens of the image encoder; SVD has n = 1.
    latent: [1|T, 4, h, w], unscaled latent of the (noise-augmented) picture, concatenated to the noisy channels.
    vector: [1|T, V], embedded numbers such as frame rate and motion bucket.
    region: another vector for a part of the picture, or None.

    Raises ValueError if a part has the wrong shape, or if the parts disagree about the number of frames.
    """

    token: Tensor
    latent: Tensor
    vector: Tensor
    region: Region | None = None

    def __post_init__(self) -> None:
        lengths = set() if self.region is None else {len(part) for part in self.region}
        for name, axes in (("token", "[T, n, D]"), ("latent", "[T, 4, h, w]"), ("vector", "[T, V]")):
            part = getattr(self, name)
            if part.dim() != axes.count(",") + 1 or not len(part):
                raise ValueError(
                    f"the condition's {name} must have shape {axes} with T = 1 or the number of frames (got "
                    f"{list(part.shape)})"
                )
            lengths.add(len(part))
        if len(lengths - {1}) > 1:
            raise ValueError(
                "all parts of a condition must have 1 row, or one row per frame of the same clip (got "
                f"{', '.join(map(str, sorted(lengths)))} rows)"
            )

    @property
    def frames(self) -> int:
        """Return the number of frames of this condition, or 1 if it fits clips of any length."""
        return max(len(part) for part in (self.token, self.latent, self.vector, *(self.region or ())))

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """Return this condition with `change` applied to every part, for example to select rows."""
        region = None if self.region is None else Region(*(change(part) for part in self.region))
        return Condition(change(self.token), change(self.latent), change(self.vector), region)

    def unconditional(self) -> "Condition":
        """Return the unconditional counterpart for CFG: token and latent zero, motion unchanged (spec section 7).

        The latent itself is zero; a black picture encodes to something else.
        """
        return self._unconditional

    @cached_property
    def _unconditional(self) -> "Condition":
        # Created once, so that what networks cache for its tensors is found again in the next step.
        return Condition(torch.zeros_like(self.token), torch.zeros_like(self.latent), self.vector, self.region)

    def turned(self) -> "Condition":
        """Return this condition for the clip in reverse: rows per frame are reversed."""
        return self.with_parts(lambda part: part.flip(0))

    def to(self, device: torch.device | str) -> "Condition":
        """Return this condition on `device`."""
        return self.with_parts(lambda part: part.to(device))

    def over_frames(self, frames: int) -> "Condition":
        """Return this condition with one row per frame in every part; single rows are expanded without a copy.

        Raises ValueError if the condition is for another number of frames.
        """
        if self.frames not in (1, frames):
            raise ValueError(
                f"the condition has {self.frames} frames, the clip {frames}; pass one row, or one row per frame of the "
                "clip"
            )
        return self.with_parts(lambda part: part.expand(frames, *part.shape[1:]))
