"""Norms that run as kernels: how their work is cut into programs, and in which layout they write."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .choice import attempt, on_device, runs_on
from .products import Product
from .weights import Affine, weights_of

PROGRAMS = 1024
"""Programs that keep a large GPU busy; fewer frames are cut into more stretches of pixels."""

TILE = 2048
"""Numbers that a program of four warps holds at once: 16 per thread."""

MOST_CHANNELS = 8192
"""Longest row that LayerNorm takes in one piece."""


def power_of_two(number: int) -> int:
    """The next one, from `number` on."""
    return 1 << max(0, number - 1).bit_length()


def group_norm(
    norm: nn.Module, x: Tensor, num_frames: int = 1, *, activate: bool, tokens: bool = False
) -> Tensor | None:
    """GroupNorm of x [N, C, H, W] with statistics over `num_frames` frames each, and SiLU if `activate`; or None.

    tokens: write [N, H*W, C], what linear layers take. Otherwise [N, C, H, W], channels last where x is, and for one
    clip of several frames with the frames inside the channels, what a convolution over time takes without a copy.
    """
    affine = weights_of(norm, nn.GroupNorm, x) if runs_on(x) else None
    if affine is None:
        return None

    def launch() -> Tensor:
        picture = _even(x)
        mean, variance = _statistics(picture, norm.num_groups, num_frames)
        out = _target(picture, num_frames, tokens)
        _apply(picture, out, mean, variance, affine, norm.eps, num_frames, activate)
        return out.flatten(2).transpose(1, 2) if tokens else out

    with on_device(x):
        return attempt("GroupNorm", launch)


def frame_moments(frame: Tensor, groups: int) -> tuple[Tensor, Tensor] | None:
    """Variance and mean [groups], float32, over channels and pixels of one frame [1, C, H, W]; or None."""
    if not runs_on(frame):
        return None
    with on_device(frame):
        found = attempt("moments", lambda: _statistics(_even(frame), groups, 1))
    return None if found is None else (found[1], found[0])


def normalise_silu(norm: nn.Module, frame: Tensor, variance: Tensor, mean: Tensor) -> Tensor | None:
    """SiLU of a frame [1, C, H, W] normalised with given statistics [groups] in place of its own; or None."""
    affine = weights_of(norm, nn.GroupNorm, frame) if runs_on(frame) else None
    if affine is None:
        return None

    def launch() -> Tensor:
        picture = _even(frame)
        out = torch.empty_like(picture)
        _apply(picture, out, mean.contiguous(), variance.contiguous(), affine, norm.eps, 1, True)
        return out

    with on_device(frame):
        return attempt("normalisation", launch)


def _even(x: Tensor) -> Tensor:
    """x [N, C, H, W], copied only where its pixels do not lie in even steps."""
    height, width = x.shape[2:]
    return x if height == 1 or width == 1 or x.stride(2) == width * x.stride(3) else x.contiguous()


def _steps(x: Tensor) -> tuple[int, int, int]:
    """Strides of frame, channel and pixel."""
    height, width = x.shape[2:]
    pixel = x.stride(3) if width > 1 else x.stride(2) if height > 1 else 1
    return x.stride(0), x.stride(1), pixel


def _target(x: Tensor, num_frames: int, tokens: bool) -> Tensor:
    """Empty memory in the layout of the result, as [N, C, H, W]."""
    frames, channels, height, width = x.shape
    if tokens or (channels > 1 and x.stride(1) == 1):
        return torch.empty_like(x, memory_format=torch.channels_last)
    if frames == num_frames > 1:
        return x.new_empty(channels, frames, height, width).transpose(0, 1)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _statistics(x: Tensor, groups: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """Mean and variance [N / num_frames * groups], float32."""
    from . import triton_norms as source

    frames, channels, height, width = x.shape
    pixels, group_channels = height * width, channels // groups
    block_c = min(power_of_two(group_channels), 8 if pixels >= 512 else 32)
    block_p = min(TILE // block_c, max(16, power_of_two(pixels)))
    wanted = max(1, min(PROGRAMS // (frames * groups), pixels // (4 * block_p)))
    split_pixels = -(-pixels // (wanted * block_p)) * block_p
    splits = -(-pixels // split_pixels)
    parts = x.new_empty(2, frames * groups * splits, dtype=torch.float32)
    sizes = (groups, group_channels, pixels, split_pixels, splits)
    source.moments[(frames * groups, splits)](
        x, parts[0], parts[1], *sizes, *_steps(x), BLOCK_C=block_c, BLOCK_P=block_p
    )
    units = frames // num_frames * groups
    out = x.new_empty(2, units, dtype=torch.float32)
    together = num_frames * splits
    source.combine[(units,)](parts[0], parts[1], out[0], out[1], *sizes, together, BLOCK=power_of_two(together))
    return out[0], out[1]


def _apply(
    x: Tensor, out: Tensor, mean: Tensor, variance: Tensor, affine: Affine, eps: float, num_frames: int, activate: bool
) -> None:
    from . import triton_norms as source

    frames, channels, height, width = x.shape
    pixels, groups = height * width, mean.numel() // (frames // num_frames)
    read, written = _steps(x), _steps(out)
    if read[1] == 1 == written[1]:
        block_c, block_p = 128, 16
    elif 1 in (read[1], written[1]):
        block_c, block_p = 64, 32  # the tile is turned round on the way
    else:
        block_p = 128 if pixels >= 512 else 64
        block_c = TILE // block_p
    block_c = min(block_c, power_of_two(channels))
    weight, bias = affine
    grid = (-(-pixels // block_p), frames, -(-channels // block_c))
    source.apply[grid](
        x, out, mean, variance, x if weight is None else weight, x if bias is None else bias, eps,
        channels, groups, channels // groups, pixels, num_frames, *read, *written,
        AFFINE=weight is not None, SILU=activate, BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip


def add_norm(norm: nn.Module, x: Tensor, update: Tensor | None, *, fresh: bool = False) -> tuple[Tensor, Tensor] | None:
    """x + update, and LayerNorm of it; or None, and x is as it was. x: [..., C]; update: broadcasts to x; None: zero.

    The sum is written into x unless `fresh` asks for new memory.
    """
    affine = weights_of(norm, nn.LayerNorm, x) if runs_on(x) else None
    if affine is None or tuple(norm.normalized_shape) != x.shape[-1:] or x.shape[-1] > MOST_CHANNELS:
        return None
    pattern = (1, 1) if update is None else repetition(x.shape, update)
    if pattern is None or not x.is_contiguous():
        return None
    with on_device(x):
        return attempt("add and LayerNorm", lambda: _add_norm(x, update, pattern, affine, norm.eps, fresh))


def repetition(shape: torch.Size, update: Tensor) -> tuple[int, int] | None:
    """(every, period) such that row r of a tensor of `shape` [..., C] takes row (r // every) % period of `update`.

    None where `update` does not lie in memory as such rows.
    """
    if update.shape[-1] != shape[-1] or not update.is_contiguous() or update.ndim > len(shape):
        return None
    own = (1,) * (len(shape) - update.ndim) + tuple(update.shape)
    repeated = [i for i in range(len(shape) - 1) if own[i] == 1 != shape[i]]
    kept = [i for i in range(len(shape) - 1) if own[i] != 1]
    if any(own[i] != shape[i] for i in kept):
        return None
    inner = [i for i in repeated if not kept or i > kept[-1]]
    if kept and any(kept[0] < i < kept[-1] for i in repeated):
        return None
    every = 1
    for i in inner if kept else []:
        every *= shape[i]
    return every, update.numel() // shape[-1]


def _add_norm(
    x: Tensor, update: Tensor | None, pattern: tuple[int, int], affine: Affine, eps: float, fresh: bool
) -> tuple[Tensor, Tensor]:
    from . import triton_norms as source

    channels = x.shape[-1]
    rows = x.numel() // channels
    total = torch.empty_like(x) if fresh and update is not None else x
    out = torch.empty_like(x)
    block_c = max(16, power_of_two(channels))
    block_r = max(1, TILE // block_c)
    weight, bias = affine
    source.add_layer_norm[(-(-rows // block_r),)](
        x, x if update is None else update, total, out, x if weight is None else weight, x if bias is None else bias,
        eps, rows, channels, *pattern, channels, channels, channels, channels,
        UPDATE=update is not None, AFFINE=weight is not None, BLOCK_R=block_r, BLOCK_C=block_c,
    )  # fmt: skip
    return total, out


BLOCK_R, BLOCK_C = 8, 256
"""Hidden layers are multiples of 256 wide, so that no thread idles."""


def gated(layer: nn.Module, x: Tensor, product: Product = F.linear) -> Tensor | None:
    """value * GELU(gate) of layer(x) = [value, gate], x [rows, C]; or None. The layer's bias is added on the way.

    Returns [rows, hidden], a view of the product's memory. product: function (x, weight, bias) in place of F.linear.
    """
    affine = weights_of(layer, nn.Linear, x) if runs_on(x) else None
    if affine is None:
        return None
    weight, bias = affine
    whole = product(x, weight, None)  # [..., 2 * hidden]
    with on_device(x):
        out = attempt("GEGLU", lambda: _gate(whole, bias))
    if out is not None:
        return out
    value, gate = (whole if bias is None else whole.add_(bias)).chunk(2, dim=-1)
    return value.mul_(F.gelu(gate))


def _gate(whole: Tensor, bias: Tensor | None) -> Tensor:
    from . import triton_norms as source

    hidden = whole.shape[-1] // 2
    rows = whole.view(-1, 2 * hidden)
    grid = (-(-len(rows) // BLOCK_R), -(-hidden // BLOCK_C))
    source.gate[grid](
        rows, rows if bias is None else bias, rows, len(rows), hidden, 2 * hidden, 2 * hidden,
        BIAS=bias is not None, BLOCK_R=BLOCK_R, BLOCK_C=BLOCK_C,
    )  # fmt: skip
    return whole[..., :hidden]
