"""Colours of latents without a decoder: a linear map from latent cells to RGB, fitted to the model's own decoder.

Each latent cell becomes one pixel, from its own four channels and their means over the 3x3 cells around it. This is
what previews show while a clip is sampled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.vae import LATENT_SCALE

SIDE = 96  # pixels of the pictures that are decoded: 4 * 144 latent cells for 27 numbers
BLOCKS = 6  # of random colours on each side of a latent
RIDGE = 1e-3  # keeps the numbers small where a channel does not matter

Rows = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class LatentColours:
    """weight: a row of R, G, B for every channel of scaled latents; bias: of R, G, B; both for frames in -1..1.

    around: rows for the mean of every channel over a cell and its eight neighbours; none if they do not count.
    """

    weight: Rows
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    around: Rows = ()

    def frames(self, latents: Tensor) -> Tensor:
        """Return frames [T, 3, h, w] in -1..1 of scaled latents [T, 4, h, w]."""
        cells = latents.float()
        weight, bias = (torch.tensor(part).to(cells.device) for part in (self.weight + self.around, self.bias))
        if self.around:
            cells = _with_means(cells)
        return (torch.einsum("tchw,cr->trhw", cells, weight) + bias[:, None, None]).clamp(-1, 1)

    def alone(self) -> Rows:
        """Return the rows for previews that look at each cell alone, right where neighbours are alike."""
        if not self.around:
            return self.weight
        pairs = zip(self.weight, self.around, strict=True)
        return tuple(tuple(map(sum, zip(own, other, strict=True))) for own, other in pairs)


def fit_colours(latents: Tensor, frames: Tensor) -> LatentColours:
    """Return the map closest to `frames` [T, 3, 8h, 8w], about -1..1, decoded from scaled latents [T, 4, h, w]."""
    pixels = F.avg_pool2d(frames.float().clamp(-1, 1).cpu(), 8).movedim(1, -1).reshape(-1, 3).double()
    cells = _with_means(latents.float().cpu()).movedim(1, -1).reshape(-1, 2 * latents.shape[1]).double()
    cells = torch.cat([cells, torch.ones(len(cells), 1, dtype=torch.float64)], dim=1)
    ridge = RIDGE * len(cells) * torch.eye(cells.shape[1], dtype=torch.float64)
    ridge[-1, -1] = 0
    solved = torch.linalg.solve(cells.T @ cells + ridge, cells.T @ pixels)  # [9, 3]
    *rows, bias = (tuple(round(value, 4) for value in row) for row in solved.tolist())
    channels = latents.shape[1]
    return LatentColours(tuple(rows[:channels]), bias, tuple(rows[channels:]))


def measure_colours(
    pictures: Sequence[Tensor], encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]
) -> LatentColours:
    """Return the colours of a model, by decoding photographs [1, 3, H, W] in -1..1, in one small picture together.

    It is decoded in three ways of colouring, and so are blocks of random latents, for the first steps of a clip.
    encode: from a picture to unscaled latents. decode: from scaled latents [1, 4, h, w] to a frame about -1..1.
    """
    small = _side_by_side(pictures)
    coloured = [small[:, order] for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1])]
    latents = [encode(one).float() * LATENT_SCALE for one in coloured]
    blocks = torch.randn(1, latents[0].shape[1], BLOCKS, BLOCKS, generator=torch.Generator().manual_seed(0))
    latents.append(F.interpolate(blocks, latents[0].shape[2:]).to(latents[0]))
    return fit_colours(torch.cat(latents), torch.cat([decode(one).float() for one in latents]))


def _side_by_side(pictures: Sequence[Tensor]) -> Tensor:
    """Return pictures [1, 3, H, W] in one of SIDE pixels, in rows of two: [1, 3, SIDE, SIDE]."""
    columns = min(2, len(pictures))
    rows = -(-len(pictures) // columns)
    parts = [F.interpolate(picture, (SIDE // rows, SIDE // columns), mode="area") for picture in pictures]
    parts += parts[: rows * columns - len(parts)]
    lines = [torch.cat(parts[row * columns : (row + 1) * columns], dim=3) for row in range(rows)]
    return F.interpolate(torch.cat(lines, dim=2), (SIDE, SIDE))


def _with_means(latents: Tensor) -> Tensor:
    """Return latents [T, C, h, w] with the means over 3x3 cells behind them: [T, 2 * C, h, w]."""
    around = F.avg_pool2d(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.cat([latents, around], dim=1)


# Of the embedded model, measured on the pack's sample pictures.
NANO = LatentColours(
    ((0.2824, 0.2872, 0.2819), (0.0332, -0.0072, -0.0619), (-0.0286, 0.0056, -0.0146), (-0.009, -0.0041, -0.0027)),
    (0.0161, -0.1083, -0.1954),
    ((0.1541, 0.1782, 0.0925), (0.1503, -0.0251, -0.1809), (-0.1043, 0.1609, -0.0856), (0.0086, 0.0226, 0.0018)),
)
