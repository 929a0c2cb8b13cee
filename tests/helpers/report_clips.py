"""Clips whose motion is known to a hundredth of a pixel: a textured picture under a camera."""

import cmath
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 768
SAMPLES = 3  # per pixel and axis, averaged, so that frames are not aliased


@lru_cache(maxsize=4)
def texture(seed: int = 1) -> Tensor:
    """A cloudy coloured picture [1, 3, SIDE, SIDE] in 0..1 with details of every size, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, SIDE, SIDE)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        noise = torch.randn(1, 3, cells, cells, generator=generator)
        picture += F.interpolate(noise, (SIDE, SIDE), mode="bicubic") / cells**0.6
    return (0.5 + 0.2 * picture / picture.std()).clamp(0, 1)


def moving(
    height: int,
    width: int,
    *,
    pan: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    roll: float = 0.0,
    frames: int = 2,
    seed: int = 1,
) -> Tensor:
    """Frames [T, height, width, 3] of the texture, each moved against the one before.

    pan: pixels to the right and down. zoom: factor. roll: degrees clockwise, both about the centre.
    """
    unit = 0.7 * SIDE / max(height, width)  # pixels of the texture per pixel, so that little beyond its edge is seen
    y, x = torch.meshgrid(*(_places(count) for count in (height, width)), indexing="ij")
    here = torch.complex(x, y)
    turn = cmath.rect(zoom, math.radians(roll))
    shift, made = 0j, []
    for index in range(frames):
        source = (here - shift) / turn**index * (unit * 2 / SIDE)
        grid = torch.stack([source.real, source.imag], dim=-1)[None]
        fine = F.grid_sample(texture(seed), grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        made.append(F.avg_pool2d(fine, SAMPLES)[0].movedim(0, -1))
        shift = turn * shift + complex(*pan)
    return torch.stack(made).clamp(0, 1)


def with_blob(clip: Tensor, size: int, step: tuple[int, int]) -> Tensor:
    """The clip with a textured square of `size` pixels that moves by `step` (right, down) pixels per frame."""
    covered = clip.clone()
    blob = moving(size, size, frames=1, seed=2)[0]
    top, left = (clip.shape[1] - size) // 2, (clip.shape[2] - size) // 2
    for index, frame in enumerate(covered):
        y, x = top + index * step[1], left + index * step[0]
        frame[y : y + size, x : x + size] = blob
    return covered


def with_noise(clip: Tensor, sigma: float) -> Tensor:
    """The clip with Gaussian noise of standard deviation `sigma`, clamped to 0..1."""
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(3))
    return (clip + sigma * noise).clamp(0, 1)


def _places(count: int) -> Tensor:
    return (torch.arange(count * SAMPLES) + 0.5) / SAMPLES - count / 2
