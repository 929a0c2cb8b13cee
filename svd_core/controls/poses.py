"""Pose drawings that drive a person: the adapters of MimicMotion and ControlNeXt-SVD."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..condition import Adapter, PassInputs
from ..networks.controlnext import AddNormalisedFeatures, ControlNeXt
from ..networks.mimicmotion import AddFirstFeatures, PoseNet

FRAMES_AT_ONCE = 8  # drawings that a pose network reads at once; they are as large as the clip


@dataclass(frozen=True)
class LoadedPoseNetwork:
    """A pose network ready to run, its kind (mimicmotion or controlnext), and the name of its file for messages."""

    network: PoseNet | ControlNeXt
    kind: str
    name: str


@dataclass(frozen=True, eq=False)
class MimicMotionAdapter(Adapter):
    """MimicMotion's features [T, C, h, w] of a clip's pose drawings; the unconditional pass gets none."""

    network: PoseNet = field()
    features: Tensor
    strength: float = 1.0

    @classmethod
    @torch.no_grad()
    def of(cls, network: PoseNet, drawings: Tensor, strength: float = 1.0) -> "MimicMotionAdapter":
        """Return the adapter for pose drawings [T, 3, 8h, 8w] in 0..1; they are read once."""
        # Only the dtype follows the weights: a host's layers bring theirs to the device of the drawings.
        dtype = network.final_proj.weight.dtype
        parts = [network((2 * part - 1).to(dtype)) for part in drawings.split(FRAMES_AT_ONCE)]
        return cls(network, torch.cat(parts), strength)

    @property
    def rows(self) -> int:
        """The number of frames."""
        return len(self.features)

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "MimicMotionAdapter":
        """Return this adapter with `change` applied to the features."""
        return replace(self, features=change(self.features))

    def unconditional(self) -> None:
        """The unconditional pass has no poses."""

    def hooks(self, inputs: PassInputs) -> AddFirstFeatures:
        """Return the hooks of a pass."""
        return AddFirstFeatures(self.features, self.strength)


@dataclass(frozen=True, eq=False)
class ControlNeXtAdapter(Adapter):
    """ControlNeXt with a clip's pose drawings [T, 3, 8h, 8w] in 0..1; the unconditional pass gets none."""

    network: ControlNeXt = field()
    drawings: Tensor
    strength: float = 1.0

    @property
    def rows(self) -> int:
        """The number of frames."""
        return len(self.drawings)

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "ControlNeXtAdapter":
        """Return this adapter with `change` applied to the drawings."""
        return replace(self, drawings=change(self.drawings))

    def unconditional(self) -> None:
        """The unconditional pass has no poses."""

    def features(self, c_noise: Tensor) -> Tensor:
        """Return the features [T, C, h - 1, w - 1] at one noise level [1], a few frames at a time."""
        dtype = self.network.mid_convs[1].weight.dtype
        level = c_noise.to(self.drawings.device)
        parts = [
            self.network(self.network.embed(part.to(dtype)), level) for part in self.drawings.split(FRAMES_AT_ONCE)
        ]
        return torch.cat(parts)

    def hooks(self, inputs: PassInputs) -> AddNormalisedFeatures:
        """Return the hooks of a pass."""
        return AddNormalisedFeatures(self.features(inputs.c_noise[:1]), self.strength)
