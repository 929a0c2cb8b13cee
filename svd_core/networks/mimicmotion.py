"""MimicMotion's pose network: pose drawings to features that are added to the UNet's first convolution.

Zhang et al. 2024, MimicMotion. The features are added before the result becomes the first skip.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hooks import Hooks

# (layer, channels in, channels out, kernel, stride); a SiLU follows every layer, and odd numbers are those SiLUs.
LAYERS = (
    (0, 3, 3, 3, 1),
    (2, 3, 16, 4, 2),
    (4, 16, 16, 3, 1),
    (6, 16, 32, 4, 2),
    (8, 32, 32, 3, 1),
    (10, 32, 64, 4, 2),
    (12, 64, 64, 3, 1),
    (14, 64, 128, 3, 1),
)


class PoseNet(nn.Module):
    """Pose drawings [N, 3, 8h, 8w] in -1..1 to features [N, C, h, w] of the UNet's first width."""

    def __init__(self, channels: int = 320, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.channels = channels
        self.conv_layers = nn.ModuleDict(
            {
                str(layer): ops.Conv2d(wide, out, kernel, stride=stride, padding=1, **place)
                for layer, wide, out, kernel, stride in LAYERS
            }
        )
        self.final_proj = ops.Conv2d(LAYERS[-1][2], channels, 1, **place)
        self.scale = nn.Parameter(torch.ones(1, **place))

    def forward(self, poses: Tensor) -> Tensor:
        """Return the features of pose drawings, times the learned scale."""
        h = poses
        for layer in self.conv_layers.values():
            h = F.silu(layer(h))
        return self.final_proj(h) * self.scale.to(h)


class AddFirstFeatures(Hooks):
    """Adds features [T, C, h, w], times `strength`, to the result of the UNet's first convolution."""

    uses_embedding = False

    def __init__(self, features: Tensor, strength: Tensor | float = 1.0) -> None:
        self.features = features
        self.strength = strength

    def after_input(self, index: int, h: Tensor) -> Tensor:
        return h + (self.features * self.strength).to(h) if index == 0 else h
