"""Fit pictures to the size of a clip by crop, pad or stretch, and crop finished clips back to their picture."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .reading import lay_out_planes

MULTIPLE = 8  # pixels per side of the autoencoder's latent cell
SMALLEST = 16  # two latent cells: below that, mirrored borders and the UNet's levels have no content

FitMode = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class Placement:
    """Position of the picture in the fitted frame, in pixels of a frame of `width` x `height`."""

    width: int
    height: int
    left: int
    top: int
    inner_width: int
    inner_height: int

    @property
    def padded(self) -> bool:
        """Whether the frame has borders that are not part of the picture."""
        return (self.inner_width, self.inner_height) != (self.width, self.height)

    def undo(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, C] without their padded borders; frames without borders are returned as they are.

        Frames of another size than the fitted one, such as upscaled ones, are cropped in proportion.
        """
        if not self.padded:
            return frames
        height, width = frames.shape[1:3]
        across, down = width / self.width, height / self.height
        left, top = round(self.left * across), round(self.top * down)
        right, bottom = round((self.left + self.inner_width) * across), round((self.top + self.inner_height) * down)
        return frames[:, top:bottom, left:right]


def check_size(width: int, height: int) -> None:
    """Raise ValueError with the nearest valid sizes unless both sides are multiples of 8 and at least 16 pixels."""
    for name, value in (("width", width), ("height", height)):
        if value < SMALLEST:
            raise ValueError(f"{name} {value} is too small; use {SMALLEST} or more")
        if value % MULTIPLE:
            below = value // MULTIPLE * MULTIPLE
            raise ValueError(f"{name} {value} is not a multiple of {MULTIPLE}; use {below} or {below + MULTIPLE}")


def snap_size(width: float, height: float, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Return the nearest valid size: each side rounded to a multiple (halves up), at least one multiple and 16."""
    smallest = max(multiple, SMALLEST)
    snapped = (max(smallest, math.floor(side / multiple + 0.5) * multiple) for side in (width, height))
    return tuple(snapped)


def size_like(width: int, height: int, pixels: int, multiple: int = 64) -> tuple[int, int]:
    """Return a size of about `pixels` pixels with the aspect of a width x height picture, in multiples of 64.

    SVD has no spatial position embedding. It works best near the number of pixels it was trained at, at any aspect.
    """
    scale = math.sqrt(pixels / (width * height))
    return snap_size(width * scale, height * scale, multiple)


def fit(image: Tensor, width: int, height: int, mode: FitMode = "crop") -> tuple[Tensor, Placement]:
    """Fit a batch [B, 3, H, W] of any value range to width x height and return it with its Placement.

    crop: scale to cover the frame and keep the centre. pad: scale to fit inside; the borders are filled with the
    mirrored and increasingly blurred picture, since the model would animate plain borders as objects. `Placement.undo`
    crops them off. stretch: scale each side on its own. Resizing is antialiased and stays in the picture's own range;
    a picture of the right size is not changed. Raises ValueError for an invalid size or mode.
    """
    check_size(width, height)
    if image.ndim != 4 or image.shape[0] == 0 or min(image.shape[2:]) == 0:
        raise ValueError(f"image has shape {list(image.shape)}; give [pictures, channels, height, width]")
    whole = Placement(width, height, 0, 0, width, height)
    image = lay_out_planes(image)
    if mode == "stretch":
        return resize(image, width, height), whole
    if mode == "crop":
        return _crop(image, width, height), whole
    if mode == "pad":
        return _pad(image, width, height)
    raise ValueError(f"fit {mode!r} is unknown; use crop, pad or stretch")


def resize(image: Tensor, width: int, height: int) -> Tensor:
    """Return [B, C, H, W] resized by antialiased bicubic interpolation, clamped to each picture's own value range."""
    if image.shape[2:] == (height, width):
        return image
    # The range is taken per picture, so that one picture of a batch never changes another.
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    # In float32, because few devices have a half precision kernel.
    resized = F.interpolate(image.float(), (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.to(image.dtype).clamp(low, high)


def _crop(image: Tensor, width: int, height: int) -> Tensor:
    from_height, from_width = image.shape[2:]
    scale = max(width / from_width, height / from_height)
    # Trim a very long picture to what the resize kernel reaches; scaled whole, it might not fit in memory.
    margin = 2 * math.ceil(1 / scale) + 2
    trim_x = max(0, (from_width - math.ceil(width / scale)) // 2 - margin)
    trim_y = max(0, (from_height - math.ceil(height / scale)) // 2 - margin)
    image = image[:, :, trim_y : from_height - trim_y, trim_x : from_width - trim_x]
    inner_width = max(width, round(image.shape[3] * scale))
    inner_height = max(height, round(image.shape[2] * scale))
    left, top = (inner_width - width) // 2, (inner_height - height) // 2
    return resize(image, inner_width, inner_height)[:, :, top : top + height, left : left + width]


def _pad(image: Tensor, width: int, height: int) -> tuple[Tensor, Placement]:
    from_height, from_width = image.shape[2:]
    scale = min(width / from_width, height / from_height)
    # Even sides and corners, so that the picture that `undo` crops out is a valid size for video.
    inner_width = min(width, max(2, 2 * round(from_width * scale / 2)))
    inner_height = min(height, max(2, 2 * round(from_height * scale / 2)))
    left, top = (width - inner_width) // 4 * 2, (height - inner_height) // 4 * 2
    placement = Placement(width, height, left, top, inner_width, inner_height)
    inner = resize(image, inner_width, inner_height)
    if not placement.padded:
        return inner, placement
    rows = _mirrored(torch.arange(height, device=image.device) - top, inner_height)
    columns = _mirrored(torch.arange(width, device=image.device) - left, inner_width)
    mirrored = inner[:, :, rows][:, :, :, columns]  # [B, C, height, width]
    blurred = resize(resize(mirrored, max(2, width // 32), max(2, height // 32)), width, height)
    blend = _distance(placement, image.device).div(min(width, height) / 4).clamp(max=1)  # [height, width]
    return torch.lerp(mirrored, blurred, blend.to(mirrored.dtype)), placement


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Fold any integer index into 0..size-1 by reflection, the edge pixel repeated."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def _distance(placement: Placement, device: torch.device) -> Tensor:
    """Return the distance in pixels of each pixel of the frame from the picture: [height, width], 0 inside."""

    def outside(length: int, start: int, inner: int) -> Tensor:
        index = torch.arange(length, device=device, dtype=torch.float32)
        return torch.maximum(start - index, index - (start + inner - 1)).clamp(min=0)

    rows = outside(placement.height, placement.top, placement.inner_height)
    columns = outside(placement.width, placement.left, placement.inner_width)
    return torch.maximum(rows[:, None], columns[None, :])
