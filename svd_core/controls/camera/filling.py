"""Filling of holes in pictures by push-pull: averages of what is known, at the finest scale that knows anything."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_holes(pictures: Tensor, valid: Tensor) -> Tensor:
    """Return `pictures` [T, C, H, W] with every pixel outside `valid` [T, 1, H, W] (0 or 1) filled in smoothly.

    Valid pixels come back untouched, filled ones lie between the least and the greatest valid value of their picture.
    A picture without any valid pixel becomes 0. (Gortler et al. 1996, "The Lumigraph", section 3.5.)
    """
    known = valid.to(pictures.dtype)
    levels = [(pictures * known, known)]
    while min(levels[-1][0].shape[-2:]) > 1:
        levels.append(_coarser(*levels[-1]))
    colour, known = levels.pop()
    average = colour.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1e-6)
    filled = average.expand_as(colour)
    for colour, known in reversed(levels):
        smooth = F.interpolate(filled, colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = colour + (1 - known) * smooth  # the colours of a level are weighted with what is known
    return torch.where(valid.bool(), pictures, filled)


def _coarser(colour: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Average 2x2 cells of weighted colours; a cell in which anything is known counts as known where that is enough."""
    colour, weight = (F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in (colour, known))
    full = weight.clamp(max=0.25) * 4  # one known pixel of four is enough to rely on
    return colour / weight.clamp(min=1e-6) * full, full


def shrink(valid: Tensor, cells: int) -> Tensor:
    """Return `valid` [T, 1, H, W] with the edges of its holes moved outward by `cells`; picture borders stay."""
    if cells < 1:
        return valid
    return 1 - F.max_pool2d(1 - valid, 2 * cells + 1, stride=1, padding=cells)
