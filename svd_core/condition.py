"""What the denoiser is conditioned on: image token, latent and motion vector, and the features cached between steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass
class DeepFeatures:
    """What the inside of a UNet made of a clip, at one place, and where that place is.

    depth: how many pairs of blocks lie outside, one of each pair on the way down and one on the way up; those run in
    every pass. A pass that finds `kept` None runs whole and leaves there what the last of its inner blocks gave, one
    row per frame; a pass that finds a tensor takes it instead of running the inner blocks.
    """

    depth: int
    kept: Tensor | None = None


class Region(NamedTuple):
    """Other motion numbers in a part of the picture: a vector [1|T, V], its share [1|T, 1, h, w] in 0..1 per cell."""

    vector: Tensor
    share: Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """One clip's condition; each part has one row for all frames, or one row per frame.

    token: [1|T, n, D], n context tokens (SVD: 1) of the image encoder.
    latent: [1|T, 4, h, w], unscaled latent of the (noise-augmented) image, concatenated to the noisy channels.
    vector: [1|T, V], embedded scalars such as fps and motion bucket.
    region: another vector for a part of the picture, or None.
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
                    f"the condition's {name} has shape {list(part.shape)}, but it must be {axes} with T = 1 or the "
                    "frames"
                )
            lengths.add(len(part))
        if len(lengths - {1}) > 1:
            raise ValueError(
                f"the parts of the condition have {', '.join(map(str, sorted(lengths)))} frames; give each one row, or "
                "one "
                "row per frame of the same clip"
            )

    @property
    def frames(self) -> int:
        """Return the number of frames this condition is for, or 1 where it fits any number."""
        return max(len(part) for part in (self.token, self.latent, self.vector, *(self.region or ())))

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """Return this condition with `change` made to every part, such as the rows of some frames taken."""
        region = None if self.region is None else Region(*(change(part) for part in self.region))
        return Condition(change(self.token), change(self.latent), change(self.vector), region)

    def unconditional(self) -> "Condition":
        """Return the other branch of guidance: token and latent zero, the motion kept (spec section 7).

        The encoded latent itself is zero; a black image encodes to something else.
        """
        return self._unconditional

    @cached_property
    def _unconditional(self) -> "Condition":
        # Made once, so that what networks keep of its parts can be used again at the next step.
        return Condition(torch.zeros_like(self.token), torch.zeros_like(self.latent), self.vector, self.region)

    def turned(self) -> "Condition":
        """Return this condition for the clip with its frames in reverse: rows per frame turn with it."""
        return self.with_parts(lambda part: part.flip(0))

    def to(self, device: torch.device | str) -> "Condition":
        """Return this condition on `device`."""
        return self.with_parts(lambda part: part.to(device))

    def over_frames(self, frames: int) -> "Condition":
        """Return this condition with one row per frame in every part; single rows are repeated, without a copy."""
        if self.frames not in (1, frames):
            raise ValueError(
                f"the condition has {self.frames} frames, the clip {frames}; give one row, or one row per frame of the "
                "clip"
            )
        return self.with_parts(lambda part: part.expand(frames, *part.shape[1:]))
