"""CameraCtrl-SVD: rays of the camera, encoded once per clip, merged into the temporal self-attention.

He et al. 2024, CameraCtrl. Each pixel of each frame is described by its ray in Pluecker coordinates.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import FeedForward, attend
from .hooks import TEMPORAL, BlockHooks, Hooks, Place
from .motionctrl import block_name

RAY_CHANNELS = 6
UNSHUFFLE = 8
HEADS = 8
BLOCKS = 2  # pairs of blocks per level


class _ConvBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        if channels_in != channels_out:
            self.in_conv = ops.Conv2d(channels_in, channels_out, 1, **place)
        self.block1 = ops.Conv2d(channels_out, channels_out, 3, padding=1, **place)
        self.block2 = ops.Conv2d(channels_out, channels_out, 1, **place)

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, C', h, w] for x [T, C, h, w]."""
        x = self.in_conv(x) if hasattr(self, "in_conv") else x
        return x + self.block2(F.relu(self.block1(x)))


class _TemporalAttention(nn.Module):
    def __init__(self, channels: int, frames: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.to_q = ops.Linear(channels, channels, bias=False, **place)
        self.to_k = ops.Linear(channels, channels, bias=False, **place)
        self.to_v = ops.Linear(channels, channels, bias=False, **place)
        self.to_out = nn.ModuleList([ops.Linear(channels, channels, **place)])
        self.pos_encoder = nn.Module()
        self.pos_encoder.pe = nn.Parameter(torch.zeros(1, frames, channels, **place))

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention over the frames of each pixel; x: normalised, [S, T, C]."""
        x = x + self.pos_encoder.pe[:, : x.shape[1]].to(x)
        parts = (rearrange(layer(x), "s t (h d) -> s h t d", h=HEADS) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](rearrange(attend(*parts), "s h t d -> s t (h d)"))


class _TemporalBlock(nn.Module):
    def __init__(self, channels: int, frames: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norms = nn.ModuleList([ops.LayerNorm(channels, **place)])
        self.attention_blocks = nn.ModuleList([_TemporalAttention(channels, frames, ops=ops, **place)])
        self.ff_norm = ops.LayerNorm(channels, **place)
        self.ff = FeedForward(channels, ops=ops, **place)

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, C, h, w] for x [T, C, h, w]."""
        height = x.shape[-2]
        y = rearrange(x, "t c h w -> (h w) t c").contiguous()
        y = y + self.attention_blocks[0](self.norms[0](y))
        y = self.ff.add_to(y, self.ff_norm(y))
        return rearrange(y, "(h w) t c -> t c h w", h=height)


class PoseEncoder(nn.Module):
    """Rays [T, 6, 8h, 8w] to one feature map per level of the UNet: [T, C_i, h / 2^i, w / 2^i]."""

    def __init__(self, widths: Sequence[int], frames: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"ops": ops, "device": device, "dtype": dtype}
        self.frames = frames
        rays = RAY_CHANNELS * UNSHUFFLE**2
        self.encoder_conv_in = ops.Conv2d(rays, widths[0], 3, padding=1, device=device, dtype=dtype)
        convolutions, attentions = [], []
        channels = widths[0]
        for width in widths:
            convolutions.append(
                nn.ModuleList([_ConvBlock(channels, width, **place), _ConvBlock(width, width, **place)])
            )
            attentions.append(nn.ModuleList([_TemporalBlock(width, frames, **place) for _ in range(BLOCKS)]))
            channels = width
        self.encoder_down_conv_blocks = nn.ModuleList(convolutions)
        self.encoder_down_attention_blocks = nn.ModuleList(attentions)

    def forward(self, rays: Tensor) -> list[Tensor]:
        """Return the features of the rays of one clip, level by level."""
        h = self.encoder_conv_in(F.pixel_unshuffle(rays, UNSHUFFLE))
        features = []
        levels = zip(self.encoder_down_conv_blocks, self.encoder_down_attention_blocks, strict=True)
        for level, (convolutions, attentions) in enumerate(levels):
            h = F.avg_pool2d(h, 2) if level else h
            for convolution, attention in zip(convolutions, attentions, strict=True):
                h = attention(convolution(h))
            features.append(h)
        return features


class CameraCtrl(nn.Module):
    """The pose encoder, and one merging layer per temporal self-attention of the UNet."""

    def __init__(
        self,
        widths: Mapping[Place, int],
        levels: Mapping[Place, int],
        frames: int,
        *,
        ops=nn,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.levels = dict(levels)
        by_level = {levels[place]: width for place, width in widths.items()}
        sizes = [by_level[level] for level in sorted(by_level)]
        self.pose_encoder = PoseEncoder(sizes, frames, ops=ops, device=device, dtype=dtype)
        self.merges = nn.ModuleDict(
            {block_name(at): ops.Linear(width, width, device=device, dtype=dtype) for at, width in widths.items()}
        )


class RayFeatures(Hooks):
    """Merges the features of rays, one [T, C_i, h_i, w_i] per level, into every temporal self-attention."""

    uses_embedding = False

    def __init__(self, network: CameraCtrl, features: Sequence[Tensor], strength: Tensor | float = 1.0) -> None:
        self.network = network
        self.features = features
        self.strength = strength
        self._place: Place = ("input", 0)

    def enter(self, place: Place) -> None:
        self._place = place

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        feature = self.features[self.network.levels[self._place]]
        return _MergeHooks(self.network.merges[block_name(self._place)], feature, self.strength)


class _MergeHooks(BlockHooks):
    kinds = (TEMPORAL,)

    def __init__(self, merge: nn.Module, feature: Tensor, strength: Tensor | float) -> None:
        self.merge, self.feature, self.strength = merge, feature, strength

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if which == 2:
            return query, key, value
        feature = rearrange(self.feature, "t c h w -> (h w) t c").to(query)
        strength = self.strength.to(query).reshape(-1, 1) if isinstance(self.strength, Tensor) else self.strength
        merged = query + strength * self.merge(query + feature)  # [S, T, C]
        return merged, merged, merged
