"""ControlNeXt-SVD's pose network (v2): pose drawings to features that are added after the UNet's first level.

Peng et al. 2024, ControlNeXt. The features take the mean and the spread of the UNet's own activations.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .hooks import Hooks
from .layers import sinusoidal_embedding

PLACE = 3
"""The input block whose result is changed, after it was stored as a skip: the first downsampling."""

SHARE = 0.2
"""How much of the features is added at strength 1; the authors' constant."""

TIME_CHANNELS, TIME_WIDTH = 128, 256


class _Residual(nn.Module):
    """Residual block with a time embedding."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm1 = ops.GroupNorm(groups, channels_in, eps=1e-6, **place)
        self.conv1 = ops.Conv2d(channels_in, channels_out, 3, padding=1, **place)
        self.time_emb_proj = ops.Linear(TIME_WIDTH, channels_out, **place)
        self.norm2 = ops.GroupNorm(groups, channels_out, eps=1e-6, **place)
        self.conv2 = ops.Conv2d(channels_out, channels_out, 3, padding=1, **place)
        if channels_in != channels_out:
            self.conv_shortcut = ops.Conv2d(channels_in, channels_out, 1, **place)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return [N, C', h, w] for x [N, C, h, w] and a time embedding [1, E] without SiLU."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class _Downsample(nn.Module):
    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, stride=2, padding=1, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ControlNeXt(nn.Module):
    """Pose drawings [N, 3, 8h, 8w] in 0..1 and a noise level to features [N, C, h - 1, w - 1]."""

    def __init__(self, channels: int = 320, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.channels = channels
        self.embedding = nn.ModuleDict(
            {
                "0": ops.Conv2d(3, 64, 3, stride=2, padding=1, **place),
                "1": ops.GroupNorm(2, 64, **place),
                "3": ops.Conv2d(64, 64, 3, **place),
                "4": ops.GroupNorm(2, 64, **place),
                "6": ops.Conv2d(64, 128, 3, **place),
                "7": ops.GroupNorm(2, 128, **place),
            }
        )
        self.time_embedding = nn.ModuleDict(
            {
                "linear_1": ops.Linear(TIME_CHANNELS, TIME_WIDTH, **place),
                "linear_2": ops.Linear(TIME_WIDTH, TIME_WIDTH, **place),
            }
        )
        self.down_res = nn.ModuleList(
            [_Residual(128, 128, 4, ops=ops, **place), _Residual(128, 256, 8, ops=ops, **place)]
        )
        self.down_sample = nn.ModuleList([_Downsample(128, ops=ops, **place), _Downsample(256, ops=ops, **place)])
        middle = {
            "0": ops.Conv2d(256, 256, 3, padding=1, **place),
            "2": ops.GroupNorm(8, 256, **place),
            "3": ops.Conv2d(256, 256, 3, padding=1, **place),
            "4": ops.GroupNorm(8, 256, **place),
        }
        self.mid_convs = nn.ModuleList([nn.ModuleDict(middle), ops.Conv2d(256, channels, 1, **place)])

    def embed(self, poses: Tensor) -> Tensor:
        """Return what does not depend on the noise level: [N, 128, 4h - 4, 4w - 4]."""
        layers, h = self.embedding, poses
        for conv, norm in (("0", "1"), ("3", "4"), ("6", "7")):
            h = F.relu(layers[norm](layers[conv](h)))
        return h

    def forward(self, embedded: Tensor, c_noise: Tensor) -> Tensor:
        """Return the features for embedded poses (`embed`) at one noise level c_noise [1] = ln(sigma) / 4."""
        layers = self.time_embedding
        time = sinusoidal_embedding(c_noise, TIME_CHANNELS).to(embedded.dtype)
        time = layers["linear_2"](F.silu(layers["linear_1"](time)))  # [1, E]
        h = embedded
        for block, shrink in zip(self.down_res, self.down_sample, strict=True):
            h = shrink(block(h, time))
        middle, last = self.mid_convs
        m = middle["2"](F.relu(middle["0"](h)))
        return last(h + middle["4"](middle["3"](m)))


class AddNormalisedFeatures(Hooks):
    """Adds features [T, C, h', w'] after the first level, with mean and spread of the activations of each frame."""

    uses_embedding = False

    def __init__(self, features: Tensor, strength: Tensor | float = 1.0) -> None:
        self.features = features
        self.strength = strength

    def after_skip(self, index: int, h: Tensor) -> Tensor:
        if index != PLACE:
            return h
        c = self.features.float()
        x = h.float()
        axes = (1, 2, 3)
        mean_c, mean_x = c.mean(axes, keepdim=True), x.mean(axes, keepdim=True)
        std_c, std_x = c.std(axes, keepdim=True), x.std(axes, keepdim=True)
        c = (c - mean_c) * std_x / (std_c + 1e-5) + mean_x
        c = F.adaptive_avg_pool2d(c, h.shape[-2:])
        return (x + SHARE * self.strength * c).to(h.dtype)
