"""Features of a network that one pass keeps and another takes up; what sampler and network pass to each other."""

from dataclasses import dataclass

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
