"""Turn files, PIL images and arrays into checked float tensors in sRGB, with one error for each kind of bad content."""

import logging
import math
import struct
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..files import MOST_PATH, printable
from .profiles import to_srgb

log = logging.getLogger("svd_reel")

# Values may leave their range by this much. Upscalers overshoot by a few percent; a picture of -1..1 that is passed as
# 0..1 leaves it by far more.
OVERSHOOT = 0.5
# Pictures with more pixels are averaged down before they become floats, which take 12 bytes per pixel and copy.
MOST_PIXELS = 2**25
BROKEN = (OSError, SyntaxError, IndexError, EOFError, struct.error)
"""What Pillow raises for a damaged file besides its own errors."""


def open_picture(path: str | PathLike) -> Tensor:
    """Read a still picture: [1, H, W, 3], or [1, H, W, 4] where it has transparency, float32 in 0..1, sRGB.

    Reads every mode of Pillow: grey, palette, CMYK, 16-bit grey at full depth (Pillow reduces 16-bit colour to 8 bits).
    Applies the EXIF orientation and the ICC profile; of an animation it takes the first frame. A picture of more than
    MOST_PIXELS is averaged down to fewer. Raises FileNotFoundError, or ValueError for an unreadable or truncated file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"picture {printable(path, MOST_PATH)} does not exist; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one picture file")
    try:
        with warnings.catch_warnings():
            # Large photographs are valid; files beyond twice Pillow's limit still raise DecompressionBombError.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return from_pil(_averaged_down(picture))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that Pillow can read; save it as PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"picture {path} has more than {2 * Image.MAX_IMAGE_PIXELS} pixels; make it smaller first"
        ) from None
    except BROKEN as error:
        raise ValueError(f"picture {path} cannot be read ({error}); it may be cut short, save it again") from None


def _averaged_down(picture: Image.Image) -> Image.Image:
    """Return a picture of at most MOST_PIXELS, its blocks of n x n pixels averaged in its own 8 or 16 bits."""
    size = picture.size
    if math.prod(size) <= MOST_PIXELS:
        return picture
    factor = math.ceil(math.sqrt(math.prod(size) / MOST_PIXELS))
    picture.draft(None, (size[0] // factor, size[1] // factor))  # JPEG decodes at 1/2, 1/4 or 1/8 of its size
    factor = math.ceil(math.sqrt(math.prod(picture.size) / MOST_PIXELS))
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        height, width = (side // factor for side in values.shape)
        blocks = values[: height * factor, : width * factor].reshape(height, factor, width, factor)
        reduced = Image.fromarray(blocks.mean((1, 3), dtype=np.float32))
        if picture.mode != "F":
            reduced = Image.fromarray(np.asarray(reduced).round().astype(np.int32))
        reduced.info = picture.info
    else:
        plain = picture if picture.mode in ("RGB", "L", "LA", "RGBA", "CMYK") else _straight(picture)
        reduced = plain.reduce(factor) if factor > 1 else plain
    log.info("the picture has %d x %d pixels; it is averaged down to %d x %d", *size, *reduced.size)
    return reduced


def from_pil(picture: Image.Image) -> Tensor:
    """Return a PIL image of any mode as [1, H, W, 3 | 4] float32 in 0..1, sRGB, turned by its EXIF orientation."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep_grey(picture)
    picture = to_srgb(_straight(picture))
    pixels = np.asarray(picture.convert("RGBA" if _is_transparent(picture) else "RGB"), dtype=np.uint8)
    return torch.from_numpy(pixels.copy())[None].float() / 255  # [1, H, W, C]


def _is_transparent(picture: Image.Image) -> bool:
    return "transparency" in picture.info or picture.mode in ("LA", "PA", "La", "RGBA", "RGBa")


def _straight(picture: Image.Image) -> Image.Image:
    """Return the picture as L, RGB, CMYK, or with straight alpha as LA or RGBA."""
    if picture.mode in ("La", "RGBa"):
        # Pillow converts premultiplied modes only to their straight partners.
        return picture.convert("LA" if picture.mode == "La" else "RGBA")
    if _is_transparent(picture):
        return picture if picture.mode in ("LA", "RGBA") else picture.convert("RGBA")
    return picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")


def _deep_grey(picture: Image.Image) -> Tensor:
    """Return 16-bit, 32-bit or float grey as [1, H, W, 3]; integers are read as 16 bits deep, floats as 0..1."""
    values = np.asarray(picture).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    top = 1.0 if picture.mode == "F" else 65535.0
    if not (low >= 0 and high <= top):
        raise ValueError(
            f"grey values run from {low:g} to {high:g}, outside 0 to {top:g}; save the picture with 8 or 16 bits"
        )
    return torch.from_numpy(values / top)[None, :, :, None].repeat(1, 1, 1, 3)  # [1, H, W, 3]


def lay_out(image: Tensor) -> Tensor:
    """Return `image` [..., H, W, C] contiguous in memory, without a copy where it is so already.

    PyTorch picks its kernels by strides, and their results differ in the last bit. Every stage lays out its input this
    way, so that equal values give equal bits in any layout.
    """
    return image.contiguous().flatten().view(image.shape)  # also resets the strides of axes of length 1


def lay_out_planes(planes: Tensor) -> Tensor:
    """Return `planes` [B, C, H, W] as a view of [B, H, W, C] that is contiguous in memory; see `lay_out`."""
    if planes.shape[1] == 1:
        return lay_out(planes)  # the same memory, with the strides of usual planes
    return lay_out(planes.movedim(1, -1)).movedim(-1, 1)


def check_image(image: Tensor, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Check an image as `check_values` does; return it contiguous, as float32, with a small overshoot clamped."""
    check_values(image, low=low, high=high)
    return lay_out(image.float()).clamp(low, high)


def check_values(image: Tensor, *, low: float = 0.0, high: float = 1.0) -> None:
    """Raise ValueError unless `image` is [B, H, W, 1 | 3 | 4] of values in low..high.

    Allows a small overshoot, as upscalers leave it; but no NaN, no infinity, no empty batch, no other number of
    channels, and no values of another range, such as 0..255.
    """
    if image.ndim != 4:
        raise ValueError(f"image has {image.ndim} axes {list(image.shape)}; give [pictures, height, width, channels]")
    count, height, width, channels = image.shape
    if count == 0:
        raise ValueError("image batch holds 0 pictures; give at least 1")
    if height == 0 or width == 0:
        raise ValueError(f"image is {width}x{height} pixels; give at least 1x1")
    if channels not in (1, 3, 4):
        raise ValueError(f"image has {channels} channels; give 1 (grey), 3 (RGB) or 4 (RGBA)")
    if not image.is_floating_point():
        raise ValueError(
            f"image values are {image.dtype}; give floats in {low:g} to {high:g}, such as `image.float() / 255`"
        )
    least, most = image.aminmax()
    if not (torch.isfinite(least) and torch.isfinite(most)):
        bad = int((~torch.isfinite(image)).sum())
        raise ValueError(f"image has {bad} values that are NaN or infinite; check the step that made it")
    if least < low - OVERSHOOT or most > high + OVERSHOOT:
        raise ValueError(
            f"image values run from {float(least):g} to {float(most):g}; bring them to {low:g} to {high:g}"
        )


def composite(image: Tensor, background: str | tuple[float, float, float] = "white") -> Tensor:
    """Composite an image [B, H, W, 1 | 3 | 4] in 0..1 over a plain background and return [B, H, W, 3].

    Repeats grey to three channels. Without an alpha channel the background is not visible. `background` is a colour
    name, "#rrggbb", or three numbers in 0..1.
    """
    image = check_image(image)
    colour = torch.tensor(_colour(background), dtype=image.dtype, device=image.device)
    if image.shape[-1] == 1:
        return image.repeat(1, 1, 1, 3)
    if image.shape[-1] == 3:
        return image
    rgb, alpha = image[..., :3], image[..., 3:]
    return rgb * alpha + colour * (1 - alpha)


def _colour(background: str | tuple[float, float, float]) -> tuple[float, ...]:
    """Return a background colour as three numbers in 0..1."""
    if isinstance(background, str):
        try:
            return tuple(value / 255 for value in ImageColor.getrgb(background)[:3])
        except ValueError:
            raise ValueError(
                f"background {background!r} is not a colour; use a name such as white, or #rrggbb"
            ) from None
    colour = tuple(float(value) for value in background)
    if len(colour) != 3 or not all(0 <= value <= 1 for value in colour):
        raise ValueError(f"background {background} is not a colour; give three numbers in 0 to 1")
    return colour


def as_batch(image: "Picture | Sequence[Picture]", background: str | tuple[float, float, float] = "white") -> Tensor:
    """Return an image in any accepted form as a checked batch [B, 3, H, W] in -1..1, float32.

    Accepts a path, a PIL image, an array or tensor [H, W], [H, W, C] or [B, H, W, C] with C = 1, 3 or 4, in 0..1 or as
    uint8 in 0..255, a tensor [B, 3, H, W] that is already in -1..1, or a list of those of one size. Transparency is
    composited over `background`.
    """
    if isinstance(image, (list, tuple)):
        return _together([as_batch(one, background) for one in image])
    image = as_image(image)
    if image.ndim == 4 and image.shape[1] == 3 and image.shape[3] not in (1, 3, 4):
        return check_image(image.movedim(1, -1), low=-1.0).movedim(-1, 1)  # [B, 3, H, W]
    return composite(image, background).movedim(-1, 1) * 2 - 1  # [B, 3, H, W]


def as_image(image: "Picture") -> Tensor:
    """Return one picture or one array of pictures as a tensor with 4 axes, integers of 8 bits and masks as floats."""
    if isinstance(image, (str, PathLike)):
        return open_picture(image)
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    elif not isinstance(image, Tensor):
        raise ValueError(f"image is a {type(image).__name__}; give a path, a PIL image, an array or a tensor")
    if image.dtype in (torch.uint8, torch.bool):
        image = image.float() / (255 if image.dtype == torch.uint8 else 1)
    elif image.dtype == torch.float64:
        image = image.float()
    if image.ndim == 2:
        image = image[..., None]
    return image[None] if image.ndim == 3 else image


def _together(batches: list[Tensor]) -> Tensor:
    sizes = sorted({(batch.shape[3], batch.shape[2]) for batch in batches})
    if not sizes:
        raise ValueError("the list of pictures is empty; give at least 1")
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise ValueError(f"the pictures have several sizes ({shown}); give pictures of one size, or call once for each")
    return torch.cat(batches)


Picture = str | PathLike | Image.Image | np.ndarray | Tensor
"""What `as_batch` takes for one picture or an array of pictures."""
