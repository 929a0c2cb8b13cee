"""Nearest-neighbour enlargement with the convolution behind it, as one step of fewer operations where that is exact."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kept import Kept
from .reused_work import is_plain

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
