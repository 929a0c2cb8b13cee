"""Blocks of the autoencoder (spec section 6). Attribute names are the keys of the single-file checkpoint layout."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..stopping import stop_if_asked
from .attention import attend
from .layers import (
    GROUPS,
    accumulate,
    convolve,
    convolve_clip,
    enlarge_and_convolve,
    norm_silu,
    temporal_convolution,
)
from .step_cache import StepCache

FRAME_EPS = 1e-6
"""Epsilon of every norm within one frame; the temporal norms of the decoder use GroupNorm's own 1e-5 (spec trap 14)."""


class FrameResidualBlock(nn.Module):
    """Residual block on independent frames."""

    def __init__(self, channels_in: int, channels_out: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm1 = ops.GroupNorm(GROUPS, channels_in, eps=FRAME_EPS, **place)
        self.conv1 = ops.Conv2d(channels_in, channels_out, 3, padding=1, **place)
        self.norm2 = ops.GroupNorm(GROUPS, channels_out, eps=FRAME_EPS, **place)
        self.conv2 = ops.Conv2d(channels_out, channels_out, 3, padding=1, **place)
        if channels_in != channels_out:
            self.nin_shortcut = ops.Conv2d(channels_in, channels_out, 1, **place)
        else:
            self.nin_shortcut = nn.Identity()

    def frame(self, x: Tensor) -> Tensor:
        """Return the block's output for x [N, C, H, W], in new memory: [N, C', H, W]."""
        stop_if_asked()
        h = convolve(self.conv1, norm_silu(self.norm1, x))
        stop_if_asked()
        h = convolve(self.conv2, norm_silu(self.norm2, h))
        stop_if_asked()
        return accumulate(h, self.nin_shortcut(x))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Return `frame(x)`; the number of frames per clip has no effect."""
        return self.frame(x)


class TemporalResidual(nn.Module):
    """Temporal half of the decoder's residual block: norms over the whole clip, convolutions over three frames."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.in_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels, **place),
                "2": temporal_convolution(channels, channels, ops=ops, **place),
            }
        )
        self.out_layers = nn.ModuleDict(
            {
                "0": ops.GroupNorm(GROUPS, channels, **place),
                "3": temporal_convolution(channels, channels, ops=ops, **place),
            }
        )

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        h = convolve_clip(self.in_layers["2"], norm_silu(self.in_layers["0"], x, num_frames), num_frames)
        return convolve_clip(self.out_layers["3"], norm_silu(self.out_layers["0"], h, num_frames), num_frames)


class VideoResidualBlock(FrameResidualBlock):
    """Frame residual block with a temporal one blended in, weighted by sigmoid(mix_factor) (spec trap 12)."""

    def __init__(self, channels_in: int, channels_out: int, *, ops=nn, device=None, dtype=None):
        super().__init__(channels_in, channels_out, ops=ops, device=device, dtype=dtype)
        self.time_stack = TemporalResidual(channels_out, ops=ops, device=device, dtype=dtype)
        self.mix_factor = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def temporal_weight(self, like: Tensor) -> Tensor:
        """Return sigmoid(mix_factor), shape [1], in the dtype and on the device of `like`."""
        return torch.sigmoid(self.mix_factor.to(like.device).float()).to(like.dtype)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        h = self.frame(x)
        # alpha (S + f(S)) + (1 - alpha) S = S + alpha f(S)
        return accumulate(h, self.time_stack(h, num_frames), self.temporal_weight(h))


class FrameAttention(nn.Module):
    """Single-head self-attention over the pixels of each frame; the projections are 1x1 convolutions."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm = ops.GroupNorm(GROUPS, channels, eps=FRAME_EPS, **place)
        self.q, self.k, self.v, self.proj_out = (ops.Conv2d(channels, channels, 1, **place) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (rearrange(project(h), "n c h w -> n 1 (h w) c") for project in (self.q, self.k, self.v))
        if h.device.type != "cpu":
            # Fused kernels take tokens whose channels lie side by side. A CPU keeps the bits of its strided product.
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = rearrange(attend(q, k, v), "n 1 (h w) c -> n c h w", h=x.shape[-2])
        return x + self.proj_out(out)


class FrameDownsample(nn.Module):
    """Stride-2 convolution, padded on the right and at the bottom only (spec trap 18)."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, stride=2, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class FrameUpsample(nn.Module):
    """Nearest-neighbour doubling, followed by a convolution."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
        self._cache = StepCache()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return enlarge_and_convolve(self.conv, x, (2 * height, 2 * width), self._cache)


class Middle(nn.Module):
    """Lowest level of encoder and decoder: block, attention, block."""

    def __init__(self, channels: int, block: type[FrameResidualBlock], *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"ops": ops, "device": device, "dtype": dtype}
        self.block_1 = block(channels, channels, **place)
        self.attn_1 = FrameAttention(channels, **place)
        self.block_2 = block(channels, channels, **place)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, num_frames)), num_frames)
