"""Spatial tiles for the decoder, only on request: tiles change the statistics of the norms (spec section 6.4)."""

from collections.abc import Callable

import torch
from torch import Tensor


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    stride = tile - overlap
    starts = list(range(0, length - tile, stride))
    return [*starts, length - tile]


def _ramp(length: int, overlap: int, at_start: bool, at_end: bool, like: Tensor) -> Tensor:
    """Return blending weights along one axis: rising to 1 over the overlap with a neighbour, 1 at the border."""
    weights = torch.ones(length, dtype=like.dtype, device=like.device)
    rise = (torch.arange(overlap, dtype=like.dtype, device=like.device) + 1) / (overlap + 1)
    if not at_start:
        weights[:overlap] = rise
    if not at_end:
        weights[-overlap:] = torch.minimum(weights[-overlap:], rise.flip(0))
    return weights


def decode_tiles(decode: Callable[[Tensor], Tensor], latent: Tensor, tile: int, overlap: int, scale: int = 8) -> Tensor:
    """Decode overlapping tiles of all frames and cross-fade them to [T, 3, scale h, scale w], float32.

    decode: [T, 4, a, b] -> [T, 3, scale a, scale b]. latent: [T, 4, h, w]. tile, overlap: in latent cells.
    """
    frames, _, height, width = latent.shape
    total = weight_sum = None
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            image = decode(latent[:, :, top : top + tile, left : left + tile]).float()
            if total is None:
                total = image.new_zeros(frames, image.shape[1], height * scale, width * scale)
                weight_sum = image.new_zeros(height * scale, width * scale)
            rows, columns = image.shape[-2:]
            y, x, fade = top * scale, left * scale, overlap * scale
            vertical = _ramp(rows, fade, top == 0, top + tile >= height, image)
            horizontal = _ramp(columns, fade, left == 0, left + tile >= width, image)
            weight = vertical[:, None] * horizontal[None]
            total[:, :, y : y + rows, x : x + columns] += image * weight
            weight_sum[y : y + rows, x : x + columns] += weight
    return total / weight_sum
