"""Draw frames as small pictures on a sheet, and convert sheets to and from IMAGE tensors."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def small_picture(frame: Tensor, width: int, height: int) -> Image.Image:
    """Return a frame [H, W, 3] in 0..1 as a picture of width x height."""
    pixels = (frame.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.numpy()).resize((width, height), Image.Resampling.LANCZOS)


def as_image(sheet: Image.Image) -> Tensor:
    """Return an RGB picture as IMAGE [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def to_picture(image: Tensor) -> Image.Image:
    """Return IMAGE [1, H, W, 3] in 0..1 as a picture of the same size."""
    return small_picture(image[0], image.shape[2], image.shape[1])


def spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` indices of `count` items, evenly from the first to the last; a single one is the last."""
    if wanted == 1 or count == 1:
        return [count - 1]
    wanted = min(wanted, count)
    return [round(index * (count - 1) / (wanted - 1)) for index in range(wanted)]
