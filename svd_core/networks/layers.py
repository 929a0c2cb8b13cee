"""Layers shared by the UNet and the autoencoder.

In this order: in-place arithmetic, norms, convolutions in strips, temporal convolution, the spatio-temporal blend,
nearest-neighbour doubling with a convolution, and sinusoidal embeddings.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..stopping import stop_if_asked
from . import kernels
from .kernels.weights import is_plain
from .step_cache import StepCache

GROUPS = 32
"""Groups of every GroupNorm in the model (spec section 3.3)."""

WORK_OF_STRIP, ROWS_OF_STRIP = 2**36, 32
"""Floating-point operations of a convolution on the CPU, about a second of one core, so that a run can be stopped in
between; and the least rows of a strip, two of which are computed twice.
"""


# In-place arithmetic


def silu(x: Tensor) -> Tensor:
    """Return SiLU(x), written into x where no gradient is needed. The caller must own x."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def accumulate(x: Tensor, update: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return x + weight * update, written into x where no gradient is needed. The caller must own x."""
    if isinstance(weight, Tensor):
        return torch.addcmul(x, update, weight) if torch.is_grad_enabled() else x.addcmul_(update, weight)
    return x + weight * update if torch.is_grad_enabled() else x.add_(update, alpha=weight)


# Norms


def norm_over_frames(norm: nn.Module, x: Tensor, num_frames: int) -> Tensor:
    """Return GroupNorm of x [B*T, C, H, W] with statistics over all frames of each clip (spec section 3.3, trap 11)."""
    height, width = x.shape[-2:]
    clip = norm(rearrange(x, "(b t) c h w -> b c t (h w)", t=num_frames))
    return rearrange(clip, "b c t (h w) -> (b t) c h w", h=height, w=width)


def norm_silu(norm: nn.Module, x: Tensor, num_frames: int | None = None) -> Tensor:
    """Return SiLU(GroupNorm(x)) of x [N, C, H, W]; with `num_frames`, the statistics pool over the frames of a clip."""
    fused = kernels.group_norm(norm, x, num_frames or 1, activate=True)
    if fused is not None:
        return fused
    return silu(norm(x) if num_frames is None else norm_over_frames(norm, x, num_frames))


def norm_to_tokens(norm: nn.Module, x: Tensor) -> Tensor:
    """Return GroupNorm of x [N, C, H, W] as contiguous tokens [N, H*W, C]."""
    fused = kernels.group_norm(norm, x, activate=False, tokens=True)
    return rearrange(norm(x), "n c h w -> n (h w) c").contiguous() if fused is None else fused


def add_norm(norm: nn.Module, x: Tensor, update: Tensor | None = None, *, fresh: bool = False) -> tuple[Tensor, Tensor]:
    """Return x + update and its LayerNorm. x: [..., C]; update: broadcasts to x, None for zero.

    The sum is written into x, so the caller must own x. `fresh` allocates new memory for the sum instead.
    """
    fused = kernels.add_norm(norm, x, update, fresh=fresh)
    if fused is not None:
        return fused
    if update is not None:
        x = x + update if fresh else accumulate(x, update)
    return x, norm(x)


# Convolutions in strips


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Return `conv` (3x3, padding 1) of frames x [N, C, H, W], on a CPU in strips of rows if it takes long.

    A layer that somebody has changed, such as for pictures that wrap around, sees whole frames.
    """
    changed = not is_plain(conv, type(conv)) or "_conv_forward" in vars(conv) or conv.padding_mode != "zeros"
    if changed:
        return conv(x)
    return _in_strips(conv, x, 18 * conv.in_channels * conv.out_channels * x.shape[-1])


def _in_strips(convolution: Callable[[Tensor], Tensor], x: Tensor, operations: int, scale: int = 1) -> Tensor:
    """Return `convolution(x)`, x [N, C, h, w], whose rows depend on those of x and one more at either side.

    operations: floating-point operations of a row of one frame. scale: rows of the result for each of x. A run can be
    stopped between strips. They depend on sizes alone, so that a frame has the same bits however a clip is decoded.
    """
    rows, height = max(ROWS_OF_STRIP, WORK_OF_STRIP // operations), x.shape[-2]
    if x.device.type != "cpu" or height <= rows or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return convolution(x)
    out = None
    for begin in range(0, height, rows):
        stop_if_asked()
        first, end = max(begin - 1, 0), min(begin + rows, height)
        strip = convolution(x[:, :, first : end + 1])
        if out is None:
            layout = torch.contiguous_format if strip.is_contiguous() else torch.channels_last
            size = (*strip.shape[:2], scale * height, strip.shape[-1])
            out = torch.empty(size, dtype=strip.dtype, device=strip.device, memory_format=layout)
        out[:, :, scale * begin : scale * end] = strip[:, :, scale * (begin - first) : scale * (end - first)]
    return out


# Temporal convolution


class _TemporalConvolution:
    """Convolution over three frames, computed as a 2-D convolution with kernel (3, 1) over [frames, pixels].

    The weights keep their 3-D shape [out, in, 3, 1, 1]. The 2-D form gives the same numbers and does not need a Conv3d
    kernel, which is missing or slow on several devices. A 4-D input [B, C, T, H*W] is a whole clip and is zero-padded
    in time. A 5-D input [B, C, 3, H, W] is a window of three frames; it is not padded and gives [B, C, 1, H, W].
    """

    plain = False

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, *args, **kwargs) -> Tensor:
        if x.ndim == 5:
            height, width = x.shape[-2:]
            return F.conv2d(x.flatten(3), weight[..., 0], bias).unflatten(3, (height, width))
        return F.conv2d(x, weight[..., 0], bias, padding=(1, 0))


class TemporalConvolution(_TemporalConvolution, nn.Conv3d):
    """The convolution on PyTorch's own layer; it has a name in this module, so that a model can be pickled."""

    plain = True


@cache
def _temporal_convolution_class(convolution: type) -> type:
    if convolution is nn.Conv3d:
        return TemporalConvolution
    if issubclass(convolution, _TemporalConvolution):
        return convolution
    return type("TemporalConvolution", (_TemporalConvolution, convolution), {})


def temporal_convolution(channels_in: int, channels_out: int, *, ops=nn, device=None, dtype=None) -> nn.Module:
    """Return a (3, 1, 1) convolution built on `ops.Conv3d`, so that a host's weight casting keeps working."""
    layer = _temporal_convolution_class(ops.Conv3d)
    return layer(channels_in, channels_out, (3, 1, 1), padding=(1, 0, 0), device=device, dtype=dtype)


def convolve_clip(conv: nn.Module, x: Tensor, num_frames: int, bias: Tensor | None = None) -> Tensor:
    """Apply a temporal convolution to x [B*T, C, H, W], within each clip. Returns [B*T, C', H, W].

    bias: [C'], replaces the layer's own.
    """
    height, width = x.shape[-2:]
    clip = rearrange(x, "(b t) c h w -> b c t (h w)", t=num_frames)
    out = conv(clip) if bias is None else conv._conv_forward(clip, conv.weight, bias)
    return rearrange(out, "b c t (h w) -> (b t) c h w", h=height, w=width)


# Blend


class Blend(nn.Module):
    """Learned weight between spatial and temporal path; `mix_factor` is a logit (spec section 3.3, trap 13)."""

    def __init__(self, *, device=None, dtype=None):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.full((1,), 0.5, device=device, dtype=dtype))
        self._cache = StepCache()

    def temporal_weight(self, like: Tensor, image_only: Tensor | None = None) -> Tensor:
        """Return 1 - sigmoid(mix_factor) in like's dtype, broadcastable over [B*T, ...].

        image_only: [B*T], 1 for frames that skip the temporal path and get weight 0; None if no frame does.
        """
        if image_only is None:
            weight = self._cache.get(
                [self.mix_factor], (like.dtype, like.device), lambda: self._weight(like).to(like.dtype)
            )
        else:
            weight = (self._weight(like) * (1.0 - image_only.to(like.device).float().reshape(-1))).to(like.dtype)
        return weight.reshape(-1, *[1] * (like.ndim - 1))

    def _weight(self, like: Tensor) -> Tensor:
        return 1.0 - torch.sigmoid(self.mix_factor.to(like.device).float())  # [1]


# Nearest-neighbour doubling with a convolution

TAP_SUMS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
"""Which of three taps read the same pixel before doubling: [even or odd position, tap of two, tap of three].

At an even position the first tap reads the previous pixel, and the other two read the pixel itself. At an odd position
the first two taps read the pixel itself, and the last reads the next pixel.
"""


def enlarge_and_convolve(conv: nn.Module, x: Tensor, size: tuple[int, int], step_cache: StepCache) -> Tensor:
    """Return `conv` (3x3, padding 1) of x [N, C, h, w] enlarged to `size` by nearest neighbour: [N, C', *size].

    Doubling repeats each pixel four times, so each output depends on 2x2 pixels of x instead of 3x3 enlarged ones. A
    2x2 kernel of summed weights therefore gives the same result with 4/9 of the operations, and the enlarged picture is
    never stored. This path runs in float32 only, because half precision would round the summed weights once more.
    `step_cache` stores the summed weights, 16 numbers for each 9 of the kernel. The decoder gains 1/9 of its time for
    little memory. The UNet would gain little for much memory, so it does not use this function.
    """
    height, width = x.shape[-2:]
    doubled = size == (2 * height, 2 * width)
    if not doubled or not _can_sum_taps(conv, x):
        return convolve(conv, F.interpolate(x, size=size, mode="nearest"))
    weight = step_cache.get([conv.weight], "doubled", lambda: doubled_kernel(conv.weight))
    bias = None if conv.bias is None else conv.bias.repeat(4)
    return _in_strips(lambda strip: _doubled(strip, weight, bias), x, 2 * weight.numel() * width, scale=2)


def _doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of x [N, C, h, w] doubled, [N, C', 2h, 2w]. weight, bias: of `doubled_kernel`."""
    height, width = x.shape[-2:]
    parts = F.conv2d(x, weight, bias, padding=1)  # [N, 4C', h + 1, w + 1]
    parts = parts.unflatten(1, (2, 2, -1))  # [N, row parity, column parity, C', h + 1, w + 1]
    out = x.new_empty(len(x), parts.shape[3], 2 * height, 2 * width)
    for row in range(2):
        for column in range(2):
            out[:, :, row::2, column::2] = parts[:, row, column, :, row : row + height, column : column + width]
    return out


def doubled_kernel(weight: Tensor) -> Tensor:
    """Return the kernel [4C', C, 2, 2] for the four positions of a doubled pixel, from a kernel [C', C, 3, 3]."""
    sums = TAP_SUMS.to(weight)
    return torch.einsum("pak,qbl,oikl->pqoiab", sums, sums, weight).flatten(0, 2)


def _can_sum_taps(conv: nn.Module, x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not is_plain(conv, nn.Conv2d):
        return False
    usual = (conv.kernel_size, conv.padding, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    usual &= conv.groups == 1 and conv.padding_mode == "zeros"
    return usual and conv.weight.dtype == x.dtype == torch.float32


# Sinusoids


def sinusoidal_embedding(values: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed scalars as [cos(v f_0).., sin(v f_0)..] with f_i = max_period^(-i / half).

    values: [N], any real numbers (c_noise is negative for small sigma). dim: even width of the result.
    Returns [N, dim] in float32; half precision would lose the phase of large values.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(steps * (-math.log(max_period) / half))
    angles = values.float()[:, None] * frequencies[None]  # [N, half]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)  # [N, dim]
