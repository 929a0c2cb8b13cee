"""Comparison of pictures: PSNR, SSIM, mean change, contrast and sharpness."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.planes import luminance
from ..pictures.fitting import resize
from ..pictures.reading import lay_out

BEST_PSNR = 100.0  # dB, for equal pictures: JSON cannot hold infinity
SSIM_RADIUS, SSIM_SIGMA = 5, 1.5  # the Gaussian window of Wang et al., "Image quality assessment", 2004
SSIM_FLOORS = (0.01**2, 0.03**2)


def psnr(picture: Tensor, other: Tensor) -> float:
    """Return the peak signal-to-noise ratio of pictures [H, W, 3] in 0..1, in dB, at most 100."""
    error = float((lay_out(picture) - lay_out(other)).square().mean())
    return BEST_PSNR if error < 10 ** (-BEST_PSNR / 10) else -10 * math.log10(error)


def ssim(picture: Tensor, other: Tensor) -> float:
    """Return the structural similarity, -1..1, of pictures [H, W, 3] in 0..1 of at least 11x11 pixels."""
    taps = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=picture.dtype, device=picture.device)
    window = torch.exp(-(taps**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()

    def local_mean(planes: Tensor) -> Tensor:
        rows = F.conv2d(planes, window.reshape(1, 1, 1, -1))
        return F.conv2d(rows, window.reshape(1, 1, -1, 1))

    a, b = (lay_out(part.movedim(-1, 0))[:, None] for part in (picture, other))  # [3, 1, H, W]
    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a, var_b = local_mean(a * a) - mean_a**2, local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    low, high = SSIM_FLOORS
    light = (2 * mean_a * mean_b + low) / (mean_a**2 + mean_b**2 + low)
    return float((light * (2 * covariance + high) / (var_a + var_b + high)).mean())


def change(picture: Tensor, other: Tensor) -> float:
    """Return the mean absolute difference of pictures [H, W, 3] in 0..1, in per cent of the range."""
    return 100 * float((lay_out(picture) - lay_out(other)).abs().mean())


def contrast(picture: Tensor) -> float:
    """Return the standard deviation of the luminance of a picture [H, W, 3]."""
    return float(luminance(picture).std(correction=0))


def sharpness(picture: Tensor) -> float:
    """Return the standard deviation of the Laplacian of luminance of a picture [H, W, 3]; it falls as detail blurs."""
    grey = luminance(picture)
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).std(correction=0))


def cover(picture: Tensor, height: int, width: int) -> Tensor:
    """Return a picture [1, H, W, 3] scaled to cover height x width, its centre cropped: [height, width, 3].

    As `pictures.fit` does, but for any size, because clips may be upscaled or have their borders cut.
    """
    if tuple(picture.shape[1:3]) == (height, width):
        return picture[0]
    scale = max(height / picture.shape[1], width / picture.shape[2])
    inner_height = max(height, round(picture.shape[1] * scale))
    inner_width = max(width, round(picture.shape[2] * scale))
    scaled = resize(picture.movedim(-1, 1), inner_width, inner_height)[0].movedim(0, -1)  # [h, w, 3]
    top, left = (inner_height - height) // 2, (inner_width - width) // 2
    return scaled[top : top + height, left : left + width]
