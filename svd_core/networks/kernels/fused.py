"""Launch the fused Triton kernels: GroupNorm with SiLU, add with LayerNorm, and GEGLU.

Each public function returns None where its kernel cannot run. The private ones choose the grid, the tile sizes and the
memory layout of the result.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dispatch import can_run, on_device, try_kernel
from .matmul import Product
from .weights import Affine, weights_of

T = TypeVar("T")

PROGRAMS = 1024
"""Programs that keep a large GPU busy. With fewer frames, each frame is split into more ranges of pixels."""

TILE = 2048
"""Elements that a program of four warps holds at once: 16 per thread."""

MAX_CHANNELS = 8192
"""Longest row that the LayerNorm kernel holds at once."""

GATE_ROWS, GATE_COLUMNS = 8, 256
"""Tile of the GEGLU kernel. Hidden layers are multiples of 256 wide, so no thread idles."""


def next_power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least `number`."""
    return 1 << max(0, number - 1).bit_length()


def _launch_with_weights(
    kernel: str, layer: nn.Module, kind: type[nn.Module], x: Tensor, launch: Callable[[Affine], T]
) -> T | None:
    """Return launch(weight and bias of the layer) on the device of x, or None where the kernel or the layer cannot."""
    with weights_of(layer, kind, x) as affine:
        if affine is None:
            return None
        with on_device(x):
            return try_kernel(kernel, lambda: launch(affine))


# GroupNorm with SiLU


def group_norm(
    norm: nn.Module, x: Tensor, num_frames: int = 1, *, activate: bool, tokens: bool = False
) -> Tensor | None:
    """Return GroupNorm of x [N, C, H, W] with statistics over `num_frames` frames each, and SiLU if `activate`.

    tokens: write [N, H*W, C], the layout of linear layers. Otherwise the result is [N, C, H, W]: channels-last where x
    is, and for a single clip with the frames inside the channels, which a temporal convolution reads without a copy.
    """
    if not can_run(x):
        return None

    def launch(affine: Affine) -> Tensor:
        source = _evenly_strided(x)
        mean, variance = _statistics(source, norm.num_groups, num_frames)
        out = _empty_output(source, num_frames, tokens)
        _apply(source, out, mean, variance, affine, norm.eps, num_frames, activate)
        return out.flatten(2).transpose(1, 2) if tokens else out

    return _launch_with_weights("GroupNorm", norm, nn.GroupNorm, x, launch)


def frame_moments(frame: Tensor, groups: int) -> tuple[Tensor, Tensor] | None:
    """Return variance and mean [groups], float32, over channels and pixels of one frame [1, C, H, W]."""
    if not can_run(frame):
        return None
    with on_device(frame):
        found = try_kernel("moments", lambda: _statistics(_evenly_strided(frame), groups, 1))
    return None if found is None else (found[1], found[0])


def normalise_silu(norm: nn.Module, frame: Tensor, variance: Tensor, mean: Tensor) -> Tensor | None:
    """Return SiLU of a frame [1, C, H, W] normalised with the given statistics [groups]."""
    if not can_run(frame):
        return None

    def launch(affine: Affine) -> Tensor:
        source = _evenly_strided(frame)
        out = torch.empty_like(source)
        _apply(source, out, mean.contiguous(), variance.contiguous(), affine, norm.eps, 1, True)
        return out

    return _launch_with_weights("normalisation", norm, nn.GroupNorm, frame, launch)


def _evenly_strided(x: Tensor) -> Tensor:
    """Return x [N, C, H, W], copied only if its pixels do not have one constant stride."""
    height, width = x.shape[2:]
    return x if height == 1 or width == 1 or x.stride(2) == width * x.stride(3) else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Return the strides of frame, channel and pixel."""
    height, width = x.shape[2:]
    pixel = x.stride(3) if width > 1 else x.stride(2) if height > 1 else 1
    return x.stride(0), x.stride(1), pixel


def _empty_output(x: Tensor, num_frames: int, tokens: bool) -> Tensor:
    """Allocate the result in its memory layout, indexed as [N, C, H, W]."""
    frames, channels, height, width = x.shape
    if tokens or (channels > 1 and x.stride(1) == 1):
        return torch.empty_like(x, memory_format=torch.channels_last)
    if frames == num_frames > 1:
        return x.new_empty(channels, frames, height, width).transpose(0, 1)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _statistics(x: Tensor, groups: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance [N / num_frames * groups], float32."""
    from . import triton_source

    frames, channels, height, width = x.shape
    pixels, group_channels = height * width, channels // groups
    block_c = min(next_power_of_two(group_channels), 8 if pixels >= 512 else 32)
    block_p = min(TILE // block_c, max(16, next_power_of_two(pixels)))
    wanted = max(1, min(PROGRAMS // (frames * groups), pixels // (4 * block_p)))
    split_pixels = -(-pixels // (wanted * block_p)) * block_p
    splits = -(-pixels // split_pixels)
    parts = x.new_empty(2, frames * groups * splits, dtype=torch.float32)
    sizes = (groups, group_channels, pixels, split_pixels, splits)
    triton_source.moments[(frames * groups, splits)](
        x, parts[0], parts[1], *sizes, *_strides(x), BLOCK_C=block_c, BLOCK_P=block_p
    )
    units = frames // num_frames * groups
    out = x.new_empty(2, units, dtype=torch.float32)
    pooled = num_frames * splits
    triton_source.combine[(units,)](parts[0], parts[1], out[0], out[1], *sizes, pooled, BLOCK=next_power_of_two(pooled))
    return out[0], out[1]


def _apply(
    x: Tensor, out: Tensor, mean: Tensor, variance: Tensor, affine: Affine, eps: float, num_frames: int, activate: bool
) -> None:
    """Write the normalised x into `out`, in the layout of `out`."""
    from . import triton_source

    frames, channels, height, width = x.shape
    pixels, groups = height * width, mean.numel() // (frames // num_frames)
    read, written = _strides(x), _strides(out)
    if read[1] == 1 == written[1]:
        block_c, block_p = 128, 16
    elif 1 in (read[1], written[1]):
        block_c, block_p = 64, 32  # the tile is transposed between reading and writing
    else:
        block_p = 128 if pixels >= 512 else 64
        block_c = TILE // block_p
    block_c = min(block_c, next_power_of_two(channels))
    weight, bias = affine
    grid = (-(-pixels // block_p), frames, -(-channels // block_c))
    triton_source.apply[grid](
        x, out, mean, variance, x if weight is None else weight, x if bias is None else bias, eps,
        channels, groups, channels // groups, pixels, num_frames, *read, *written,
        AFFINE=weight is not None, SILU=activate, BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip


# Add with LayerNorm


def add_norm(norm: nn.Module, x: Tensor, update: Tensor | None, *, fresh: bool = False) -> tuple[Tensor, Tensor] | None:
    """Return x + update and its LayerNorm. x: [..., C]; update: broadcasts to x, None for zero.

    The sum is written into x unless `fresh` allocates new memory for it. x is unchanged where the result is None.
    """
    if not can_run(x) or x.shape[-1] > MAX_CHANNELS or tuple(getattr(norm, "normalized_shape", ())) != x.shape[-1:]:
        return None
    pattern = (1, 1) if update is None else repetition(x.shape, update)
    if pattern is None or not x.is_contiguous():
        return None

    def launch(affine: Affine) -> tuple[Tensor, Tensor]:
        return _add_norm(x, update, pattern, affine, norm.eps, fresh)

    return _launch_with_weights("add and LayerNorm", norm, nn.LayerNorm, x, launch)


def repetition(shape: torch.Size, update: Tensor) -> tuple[int, int] | None:
    """Return (every, period): row r of a tensor of `shape` [..., C] uses row (r // every) % period of `update`.

    Returns None if the rows of `update` do not follow such a pattern in memory.
    """
    if update.shape[-1] != shape[-1] or not update.is_contiguous() or update.ndim > len(shape):
        return None
    own = (1,) * (len(shape) - update.ndim) + tuple(update.shape)
    repeated = [i for i in range(len(shape) - 1) if own[i] == 1 != shape[i]]
    present = [i for i in range(len(shape) - 1) if own[i] != 1]
    if any(own[i] != shape[i] for i in present):
        return None
    inner = [i for i in repeated if not present or i > present[-1]]
    if present and any(present[0] < i < present[-1] for i in repeated):
        return None
    every = 1
    for i in inner if present else []:
        every *= shape[i]
    return every, update.numel() // shape[-1]


def _add_norm(
    x: Tensor, update: Tensor | None, pattern: tuple[int, int], affine: Affine, eps: float, fresh: bool
) -> tuple[Tensor, Tensor]:
    from . import triton_source

    channels = x.shape[-1]
    rows = x.numel() // channels
    total = torch.empty_like(x) if fresh and update is not None else x
    out = torch.empty_like(x)
    block_c = max(16, next_power_of_two(channels))
    block_r = max(1, TILE // block_c)
    weight, bias = affine
    triton_source.add_layer_norm[(-(-rows // block_r),)](
        x, x if update is None else update, total, out, x if weight is None else weight, x if bias is None else bias,
        eps, rows, channels, *pattern, channels, channels, channels, channels,
        UPDATE=update is not None, AFFINE=weight is not None, BLOCK_R=block_r, BLOCK_C=block_c,
    )  # fmt: skip
    return total, out


# GEGLU


def geglu(layer: nn.Module, x: Tensor, product: Product = F.linear) -> Tensor | None:
    """Return value * GELU(gate) [rows, hidden] for layer(x) = [value, gate], x [rows, C].

    The kernel adds the layer's bias and writes into the memory of the product. product: function (x, weight, bias),
    replaces F.linear.
    """
    if not can_run(x):
        return None
    with weights_of(layer, nn.Linear, x) as affine:
        if affine is None:
            return None
        weight, bias = affine
        projected = product(x, weight, None)  # [..., 2 * hidden]
        with on_device(x):
            out = try_kernel("GEGLU", lambda: _geglu(projected, bias))
        if out is not None:
            return out
        value, gate = (projected if bias is None else projected.add_(bias)).chunk(2, dim=-1)
        return value.mul_(F.gelu(gate))


def _geglu(projected: Tensor, bias: Tensor | None) -> Tensor:
    from . import triton_source

    hidden = projected.shape[-1] // 2
    rows = projected.view(-1, 2 * hidden)
    grid = (-(-len(rows) // GATE_ROWS), -(-hidden // GATE_COLUMNS))
    triton_source.gate[grid](
        rows, rows if bias is None else bias, rows, len(rows), hidden, 2 * hidden, 2 * hidden,
        BIAS=bias is not None, BLOCK_R=GATE_ROWS, BLOCK_C=GATE_COLUMNS,
    )  # fmt: skip
    return projected[..., :hidden]
