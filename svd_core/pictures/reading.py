"""From files, PIL images and arrays to checked float tensors. Owns every complaint about a picture's contents."""

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

# How far values may leave their range before the picture is taken for one in another range:
# upscalers overshoot by a few percent, a -1..1 picture handed over as 0..1 by far more.
OVERSHOOT = 0.5


def open_picture(path: str | PathLike) -> Tensor:
    """Read a still picture: [1, H, W, 3], or [1, H, W, 4] where it has transparency, float32 in 0..1.

    Any mode that Pillow reads: grey, palette, CMYK, 16-bit grey at its full depth (Pillow itself reduces 16-bit colour
    to 8 bits). The EXIF orientation is applied, colour profiles are ignored, of an animation the first frame is taken.
    Raises FileNotFoundError, or ValueError for a file that is no complete picture.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"picture {path} does not exist; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one picture file")
    try:
        with warnings.catch_warnings():
            # Large photographs are legitimate; files beyond twice Pillow's limit still raise DecompressionBombError.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return from_pil(picture)
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that Pillow can read; save it as PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"picture {path} has more than {2 * Image.MAX_IMAGE_PIXELS} pixels; make it smaller first"
        ) from None
    except (OSError, SyntaxError) as error:
        # Pillow raises SyntaxError for a broken PNG.
        raise ValueError(f"picture {path} cannot be read ({error}); it may be cut short, save it again") from None


def from_pil(picture: Image.Image) -> Tensor:
    """Turn a PIL image of any mode into [1, H, W, 3 | 4] float32 in 0..1, with its EXIF orientation applied."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep_grey(picture)
    transparent = "transparency" in picture.info or picture.mode in ("LA", "PA", "La", "RGBA", "RGBa")
    if picture.mode in ("La", "RGBa"):
        # Pillow turns premultiplied modes only into their straight partners.
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    pixels = np.asarray(picture.convert("RGBA" if transparent else "RGB"), dtype=np.uint8)
    return torch.from_numpy(pixels.copy())[None].float() / 255  # [1, H, W, C]


def _deep_grey(picture: Image.Image) -> Tensor:
    """16-bit, 32-bit and float grey: integers are read as 16 bits deep, floats as 0..1."""
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
    way, so that equal values give equal bits whatever view they come as.
    """
    return image.contiguous().flatten().view(image.shape)  # also resets the strides of axes of length 1


def lay_out_planes(planes: Tensor) -> Tensor:
    """Return `planes` [B, C, H, W] as a view of [B, H, W, C] that is contiguous in memory; see `lay_out`."""
    if planes.shape[1] == 1:
        return lay_out(planes)  # the same memory; these strides select the usual kernels
    return lay_out(planes.movedim(1, -1)).movedim(-1, 1)


def check_image(image: Tensor, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Check an image [B, H, W, 1 | 3 | 4] of values in low..high; return it contiguous, as float32, clamped.

    A small overshoot, as upscalers leave it, is clamped; NaN, infinity, an empty batch, other channel counts and
    values of another range (0..255 for one) raise ValueError.
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
        raise ValueError(f"image values are {image.dtype}; give floats in {low:g} to {high:g}")
    image = lay_out(image.float())
    least, most = image.aminmax()
    if not (torch.isfinite(least) and torch.isfinite(most)):
        bad = int((~torch.isfinite(image)).sum())
        raise ValueError(f"image has {bad} values that are NaN or infinite; check the step that made it")
    if least < low - OVERSHOOT or most > high + OVERSHOOT:
        raise ValueError(
            f"image values run from {float(least):g} to {float(most):g}; bring them to {low:g} to {high:g}"
        )
    return image.clamp(low, high)


def composite(image: Tensor, background: str | tuple[float, float, float] = "white") -> Tensor:
    """Lay an image [B, H, W, 1 | 3 | 4] in 0..1 over a plain background and return [B, H, W, 3].

    Grey is repeated to three channels; without an alpha channel the background is not seen. `background` is a colour
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


def as_batch(
    image: Image.Image | np.ndarray | Tensor, background: str | tuple[float, float, float] = "white"
) -> Tensor:
    """Turn what people hand over into a checked batch [B, 3, H, W] in -1..1, float32.

    Takes a PIL image, an array or tensor [H, W, C] or [B, H, W, C] in 0..1 with C = 1, 3 or 4, or a tensor
    [B, 3, H, W] that is already in -1..1. Transparency is laid over `background`.
    """
    if isinstance(image, Image.Image):
        image = from_pil(image)
    elif isinstance(image, np.ndarray):
        image = torch.from_numpy(image)
    elif not isinstance(image, Tensor):
        raise ValueError(f"image is a {type(image).__name__}; give a PIL image, an array or a tensor")
    if image.ndim == 3:
        image = image[None]
    if image.ndim == 4 and image.shape[1] == 3 and image.shape[3] not in (1, 3, 4):
        return check_image(image.movedim(1, -1), low=-1.0).movedim(-1, 1)  # [B, 3, H, W]
    return composite(image, background).movedim(-1, 1) * 2 - 1  # [B, 3, H, W]
