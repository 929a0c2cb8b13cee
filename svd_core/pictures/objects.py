"""Prepare the picture of a single object for SV3D: cut out, centred on a white square (official preparation).

The orbital models were trained on objects that stand in the middle of a white picture of 576x576 pixels.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

WHITE_LIMIT = 250  # of 255: brighter pixels count as white ground, as in the authors' own helper
OBJECT_RATIO = 0.85  # share of the square that the object's longer side takes
OBJECT_SIZE = 576  # pixels; what SV3D was trained on


def prepare_object(
    picture: Tensor, mask: Tensor | None = None, *, ratio: float | None = OBJECT_RATIO, size: int = OBJECT_SIZE
) -> Tensor:
    """Return the object of `picture` on white, centred in a square: [size, size, 3] in 0..1, float32.

    picture: [H, W, C] in 0..1 with 1, 3 or 4 channels. The object is where `mask` [H, W] is above 0, else where the
    picture's alpha is above 0, else everything darker than a white ground (mean of R, G, B at most 250 of 255).
    ratio: share of the square that the longer side of the object takes, above 0 and at most 1; None keeps the scale,
    with the picture's height as the side of the square.
    Raises ValueError for an invalid ratio, size or mask, and for a picture without an object.
    """
    if ratio is not None and not (math.isfinite(ratio) and 0 < ratio <= 1):
        raise ValueError(f"the object ratio must be above 0 and at most 1 (got {ratio:g}); use 0.85")
    if size < 16 or size % 8:
        raise ValueError(f"the size of the prepared picture must be a multiple of 8 from 16 on (got {size}); use 576")
    rgba = _with_alpha(picture, mask)
    left, top, right, bottom = _bounding_box(rgba[..., 3])
    width, height = right - left, bottom - top
    side = picture.shape[0] if ratio is None else int(max(width, height) / ratio)
    side = max(side, width, height)  # the official script crashes where the object is larger than its square
    square = np.zeros((side, side, 4), np.uint8)
    x, y = side // 2 - width // 2, side // 2 - height // 2
    square[y : y + height, x : x + width] = rgba[top:bottom, left:right]
    # Pillow resizes RGBA with premultiplied alpha, as the official script does.
    resized = np.asarray(Image.fromarray(square, "RGBA").resize((size, size), Image.Resampling.LANCZOS))
    colour, alpha = resized[..., :3] / 255, resized[..., 3:] / 255  # float64, as the official script computes
    composed = colour * alpha + (1 - alpha)
    # The script truncates to 8 bits; the same here, so that a prepared picture saved and read again stays the same.
    return torch.from_numpy((composed * 255).astype(np.uint8)).float() / 255  # [size, size, 3]


def object_mask(frames: Tensor) -> Tensor:
    """Return the object's mask of orbit frames [T, H, W, 3] in 0..1 on white ground: [T, H, W], 1 on the object."""
    return (frames.mean(-1) * 255 <= WHITE_LIMIT).float()


def _with_alpha(picture: Tensor, mask: Tensor | None) -> np.ndarray:
    """Return the picture as uint8 RGBA [H, W, 4], its alpha from the mask, the picture itself, or the white ground."""
    if picture.dim() != 3 or picture.shape[-1] not in (1, 3, 4):
        raise ValueError(f"the picture must be [H, W, C] with 1, 3 or 4 channels (got {list(picture.shape)})")
    pixels = (picture.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    colour = pixels[..., :3]
    if mask is not None:
        if tuple(mask.shape) != pixels.shape[:2]:
            raise ValueError(
                f"the object mask must have the picture's size {pixels.shape[1]}x{pixels.shape[0]} "
                f"(got {'x'.join(map(str, reversed(mask.shape)))}); resize it to the picture"
            )
        alpha = (mask.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    elif pixels.shape[-1] == 4:
        alpha = pixels[..., 3]
    else:
        alpha = np.where(colour.mean(-1) <= WHITE_LIMIT, 255, 0).astype(np.uint8)
    return np.concatenate([colour, alpha[..., None]], axis=-1)


def _bounding_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the smallest upright rectangle around every pixel with alpha above 0."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        raise ValueError(
            "there is no object in the picture: its mask or alpha is empty, or everything is white; "
            "connect the mask of a background-removal node"
        )
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
