"""Colours of latents without a decoder: a linear map from four channels to RGB, fitted to the model's own decoder.

Each latent cell becomes one pixel. This is what previews show while a clip is sampled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.vae import LATENT_SCALE

SIDE = 96  # pixels of the pictures that are decoded: 3 * 144 latent cells for 15 numbers


@dataclass(frozen=True)
class LatentColours:
    """weight: a row of R, G, B for every channel of scaled latents; bias: of R, G, B; both for frames in -1..1."""

    weight: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def frames(self, latents: Tensor) -> Tensor:
        """Return frames [T, 3, h, w] in -1..1 of scaled latents [T, 4, h, w]."""
        weight, bias = (torch.tensor(part).to(latents.device) for part in (self.weight, self.bias))
        return (torch.einsum("tchw,cr->trhw", latents.float(), weight) + bias[:, None, None]).clamp(-1, 1)


def fit_colours(latents: Tensor, frames: Tensor) -> LatentColours:
    """Return the map closest to `frames` [T, 3, 8h, 8w], about -1..1, decoded from scaled latents [T, 4, h, w]."""
    pixels = F.avg_pool2d(frames.float().clamp(-1, 1).cpu(), 8).movedim(1, -1).reshape(-1, 3).double()
    cells = latents.float().cpu().movedim(1, -1).reshape(-1, latents.shape[1]).double()
    cells = torch.cat([cells, torch.ones(len(cells), 1, dtype=torch.float64)], dim=1)
    # A little ridge keeps the numbers small where a channel does not matter.
    ridge = 1e-4 * len(cells) * torch.eye(cells.shape[1], dtype=torch.float64)
    ridge[-1, -1] = 0
    solved = torch.linalg.solve(cells.T @ cells + ridge, cells.T @ pixels)  # [5, 3]
    *weight, bias = (tuple(round(value, 4) for value in row) for row in solved.tolist())
    return LatentColours(tuple(weight), bias)


def measure_colours(
    picture: Tensor, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]
) -> LatentColours:
    """Return the colours of a model, by decoding one photograph [1, 3, H, W] in -1..1 in three ways of colouring.

    encode: from a picture to unscaled latents. decode: from scaled latents [1, 4, h, w] to a frame about -1..1.
    """
    small = F.interpolate(picture, (SIDE, SIDE), mode="area")
    coloured = [small[:, order] for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1])]
    latents = [encode(one).float() * LATENT_SCALE for one in coloured]
    return fit_colours(torch.cat(latents), torch.cat([decode(one).float() for one in latents]))


# Of the embedded model, fitted on photographs of many colours.
NANO = LatentColours(
    (
        (0.4328, 0.3512, 0.2523),
        (0.1689, -0.0612, -0.1176),
        (-0.0684, 0.0195, 0.0221),
        (0.0227, -0.0144, -0.0139),
    ),
    (0.062, -0.1831, -0.3868),
)
