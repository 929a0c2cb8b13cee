"""Luminance, blur, gradients, pyramids and sampling of grey planes, the arithmetic of motion estimation.

A plane is [N, 1, h, w]. Positions are relative to the centre of the picture, in halves of its longer side, so they mean
the same on every level of a pyramid. `extent` (x, y) is the position of the right and of the lower edge.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

REC709 = (0.2126, 0.7152, 0.0722)


def lay_out(planes: Tensor) -> Tensor:
    """Return `planes` contiguous in memory, without a copy if they are already.

    PyTorch chooses kernels by strides, and their results differ in the last bit. Every entrance of this room lays out
    its input, so that equal values give equal bits.
    """
    return planes.contiguous().flatten().view(planes.shape)  # also resets the strides of axes of length 1


def luminance(rgb: Tensor) -> Tensor:
    """Return the luminance [...] of colours [..., 3] in 0..1 (Rec. 709)."""
    return lay_out(rgb) @ rgb.new_tensor(REC709)


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Return the Gaussian blur of [N, C, h, w]; sigma is in pixels, borders are repeated."""
    planes = lay_out(planes)
    height, width = planes.shape[-2:]
    return _blur_matrix(height, sigma).to(planes) @ planes @ _blur_matrix(width, sigma).to(planes).T


@lru_cache(maxsize=64)
def _blur_matrix(size: int, sigma: float) -> Tensor:
    """Return the matrix [size, size] of a blur; on a CPU ten times faster than a convolution of one channel."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1)
    taps = torch.exp(-(offsets.float() ** 2) / (2 * sigma**2))
    rows = torch.arange(size)[:, None].expand(size, len(offsets))
    columns = (rows + offsets).clamp(0, size - 1)
    return torch.zeros(size, size).index_put((rows, columns), taps / taps.sum(), accumulate=True)


def gradients(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the central differences of [N, 1, h, w] along x and y, per pixel."""
    wide = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def pyramid(planes: Tensor, smallest: int) -> list[Tensor]:
    """Return the planes and their halvings, coarsest first, while the shorter side is at least `smallest` pixels."""
    levels = [planes]
    while min(levels[0].shape[-2:]) // 2 >= smallest:
        levels.insert(0, resize(levels[0], tuple((side + 1) // 2 for side in levels[0].shape[-2:])))
    return levels


def resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return [N, C, h, w] at another (height, width), antialiased."""
    planes = lay_out(planes)
    if tuple(planes.shape[-2:]) == tuple(size):
        return planes
    return F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)


def extent(height: int, width: int) -> tuple[float, float]:
    """Return the position (x, y) of the right and of the lower edge."""
    longer = max(height, width)
    return width / longer, height / longer


def positions(planes: Tensor, reach: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return x [w] and y [h, 1] of the pixel centres of [..., h, w], for the extent `reach`."""
    height, width = planes.shape[-2:]
    axes = [
        (2 * torch.arange(count, dtype=planes.dtype, device=planes.device) + 1 - count) / count
        for count in (width, height)
    ]
    return axes[0] * reach[0], axes[1][:, None] * reach[1]


def sample(
    planes: Tensor, x: Tensor, y: Tensor, reach: tuple[float, float], mode: str = "bilinear", beyond: str = "border"
) -> Tensor:
    """Return the values of [N, C, h, w] at positions x, y [N, h, w]; `beyond` the picture, borders are repeated."""
    grid = torch.stack([x / reach[0], y / reach[1]], dim=-1)  # [N, h, w, 2]
    return F.grid_sample(planes, grid, mode=mode, padding_mode=beyond, align_corners=False)


def inside(x: Tensor, y: Tensor, reach: tuple[float, float]) -> Tensor:
    """Return 1 where positions lie in the picture, else 0."""
    return ((x.abs() <= reach[0]) & (y.abs() <= reach[1])).to(x.dtype)
