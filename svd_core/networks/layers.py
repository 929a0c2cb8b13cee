"""Building blocks shared by the UNet and the autoencoder: normalisation, temporal convolution, blending."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels
from .kernels.weights import is_plain
from .reused_work import Kept

GROUPS = 32
"""Groups of every GroupNorm in the model (spec section 3.3)."""


def silu(x: Tensor) -> Tensor:
    """SiLU that reuses its input's memory where no gradient will ask for it. Pass only tensors you own."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def accumulate(x: Tensor, update: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """x + weight * update, written into x where no gradient will ask for it. Pass only an x you own."""
    if isinstance(weight, Tensor):
        return torch.addcmul(x, update, weight) if torch.is_grad_enabled() else x.addcmul_(update, weight)
    return x + weight * update if torch.is_grad_enabled() else x.add_(update, alpha=weight)


def over_frames(norm: nn.Module, x: Tensor, num_frames: int) -> Tensor:
    """GroupNorm whose statistics pool over all frames of a video (spec section 3.3, trap 11).

    x: [B*T, C, H, W]. Returns the same shape.
    """
    frames, channels, height, width = x.shape
    videos = frames // num_frames
    clip = x.reshape(videos, num_frames, channels, height * width).transpose(1, 2)  # [B, C, T, HW]
    return norm(clip).transpose(1, 2).reshape(frames, channels, height, width)


def norm_silu(norm: nn.Module, x: Tensor, num_frames: int | None = None) -> Tensor:
    """SiLU of a GroupNorm of x [N, C, H, W], pooling over the frames of each clip if `num_frames` is given."""
    fused = kernels.group_norm(norm, x, num_frames or 1, activate=True)
    if fused is not None:
        return fused
    return silu(norm(x) if num_frames is None else over_frames(norm, x, num_frames))


def norm_to_tokens(norm: nn.Module, x: Tensor) -> Tensor:
    """GroupNorm of x [N, C, H, W], as tokens [N, H * W, C] that lie side by side."""
    fused = kernels.group_norm(norm, x, activate=False, tokens=True)
    return norm(x).flatten(2).transpose(1, 2).contiguous() if fused is None else fused


def add_norm(norm: nn.Module, x: Tensor, update: Tensor | None = None, *, fresh: bool = False) -> tuple[Tensor, Tensor]:
    """x + update, and LayerNorm of that. x: [..., C]; update: broadcasts to x, None for zero.

    The sum is written into x, so pass only an x you own, unless `fresh` asks for new memory.
    """
    fused = kernels.add_norm(norm, x, update, fresh=fresh)
    if fused is not None:
        return fused
    if update is not None:
        x = x + update if fresh else accumulate(x, update)
    return x, norm(x)


class _TemporalConvolution:
    """Convolution over three frames, run as a 2-D convolution with kernel (3, 1) over [frames, pixels].

    The weights keep their 3-D shape [out, in, 3, 1, 1]. The 2-D form gives the same numbers, needs no Conv3d kernel
    (missing or slow on several devices) and reads channels-last activations without a copy (research: temporal
    convolution). A 4-D input [B, C, T, HW] is a whole clip and is zero-padded in time; a 5-D input [B, C, 3, H, W] is
    a window of three frames and is not padded, giving [B, C, 1, H, W].
    """

    plain = False

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, *args, **kwargs) -> Tensor:
        if x.ndim == 5:
            height, width = x.shape[-2:]
            return F.conv2d(x.flatten(3), weight[..., 0], bias).unflatten(3, (height, width))
        return F.conv2d(x, weight[..., 0], bias, padding=(1, 0))


@cache
def _temporal_convolution_class(convolution: type) -> type:
    return type("TemporalConvolution", (_TemporalConvolution, convolution), {"plain": convolution is nn.Conv3d})


def temporal_convolution(channels_in: int, channels_out: int, *, ops=nn, device=None, dtype=None) -> nn.Module:
    """A (3, 1, 1) convolution built from the injected layer set, so that a host's weight casting keeps working."""
    layer = _temporal_convolution_class(ops.Conv3d)
    return layer(channels_in, channels_out, (3, 1, 1), padding=(1, 0, 0), device=device, dtype=dtype)


def convolve_clip(conv: nn.Module, x: Tensor, num_frames: int, bias: Tensor | None = None) -> Tensor:
    """Apply a temporal convolution to [B*T, C, H, W], frames of one video only seeing each other.

    bias: [C'], in place of the layer's own.
    """
    frames, channels, height, width = x.shape
    clip = x.reshape(frames // num_frames, num_frames, channels, height * width).transpose(1, 2)  # [B, C, T, HW]
    out = conv(clip) if bias is None else conv._conv_forward(clip, conv.weight, bias)
    return out.transpose(1, 2).reshape(frames, -1, height, width)


class Blend(nn.Module):
    """The learned weight between the spatial and the temporal path; `mix_factor` is a logit (spec section 3.3, trap
    13).
    """

    def __init__(self, *, device=None, dtype=None):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.full((1,), 0.5, device=device, dtype=dtype))
        self._kept = Kept()

    def temporal_weight(self, like: Tensor, image_only: Tensor | None = None) -> Tensor:
        """1 - sigmoid(mix_factor) in like's dtype, broadcastable over [B*T, ...]; zero for frames marked image-only.

        image_only: [B*T] with 1 where a frame takes no part in the temporal path, or None for none.
        """
        if image_only is None:
            weight = self._kept.get(
                [self.mix_factor], (like.dtype, like.device), lambda: self._weight(like).to(like.dtype)
            )
        else:
            weight = (self._weight(like) * (1.0 - image_only.to(like.device).float().reshape(-1))).to(like.dtype)
        return weight.reshape(-1, *[1] * (like.ndim - 1))

    def _weight(self, like: Tensor) -> Tensor:
        return 1.0 - torch.sigmoid(self.mix_factor.to(like.device).float())  # [1]


def sinusoidal_embedding(values: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed scalars as [cos(v f_0).., sin(v f_0)..], f_i = max_period^(-i / half), in float32.

    values: [N], any real numbers (c_noise is negative for small sigma). dim: even width of the result.
    Returns [N, dim] float32. Half precision would lose the phase of large values, hence the fixed float32.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(steps * (-math.log(max_period) / half))
    angles = values.float()[:, None] * frequencies[None]  # [N, half]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)  # [N, dim]


SUMS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
"""Which taps of three fall on the same pixel before doubling: [even or odd place, tap of two, tap of three].

An even place sees the pixel before its own through the first tap and its own through the other two, an odd one its own
through the first two and the next through the last.
"""


def enlarge_and_convolve(conv: nn.Module, x: Tensor, size: tuple[int, int], kept: Kept) -> Tensor:
    """`conv` (3x3, padding 1) of x [N, C, h, w] enlarged to `size` by nearest neighbours: [N, C', *size].

    Doubling makes four equal pixels of each, so that each output depends on 2x2 pixels of x instead of 3x3 of the
    enlarged picture, by a kernel of sums of weights: four ninths of the operations, and the enlarged picture is never
    made. Only in float32: sums of weights in half precision would have to be rounded once more. `kept` holds the sums,
    16 numbers for 9: little in the decoder, which gains a ninth of its time, much for what the UNet would gain.
    """
    height, width = x.shape[-2:]
    doubled = size == (2 * height, 2 * width)
    if not doubled or not _may_sum(conv, x):
        return conv(F.interpolate(x, size=size, mode="nearest"))
    weight = kept.get([conv.weight], "doubled", lambda: doubled_kernel(conv.weight))
    bias = None if conv.bias is None else conv.bias.repeat(4)
    parts = F.conv2d(x, weight, bias, padding=1)  # [N, 4C', h + 1, w + 1]
    parts = parts.unflatten(1, (2, 2, -1))  # [N, even or odd row, even or odd column, C', h + 1, w + 1]
    out = x.new_empty(len(x), parts.shape[3], *size)
    for row in range(2):
        for column in range(2):
            out[:, :, row::2, column::2] = parts[:, row, column, :, row : row + height, column : column + width]
    return out


def doubled_kernel(weight: Tensor) -> Tensor:
    """Kernel [4C', C, 2, 2] of a doubled pixel's four places, of a kernel [C', C, 3, 3] over the doubled picture."""
    sums = SUMS.to(weight)
    return torch.einsum("pak,qbl,oikl->pqoiab", sums, sums, weight).flatten(0, 2)


def _may_sum(conv: nn.Module, x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not is_plain(conv, nn.Conv2d):
        return False
    usual = (conv.kernel_size, conv.padding, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    usual &= conv.groups == 1 and conv.padding_mode == "zeros"
    return usual and conv.weight.dtype == x.dtype == torch.float32
