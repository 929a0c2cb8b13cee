"""Convert pictures with an embedded ICC profile, such as Display P3 or Adobe RGB, to sRGB by littleCMS."""

import io
import logging
from functools import lru_cache
from itertools import product

import numpy as np
from PIL import Image, ImageCms

log = logging.getLogger("svd_reel")

SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # mode of Pillow and the colour space that its profile must have
PROBES = 9  # levels per channel at which a profile is compared with sRGB


def to_srgb(picture: Image.Image) -> Image.Image:
    """Return `picture` (RGB, RGBA, L, LA or CMYK) in sRGB by its embedded profile, with its transparency.

    A picture without a profile, or whose profile is sRGB, is returned as it is. A profile that cannot be used is
    ignored with a warning.
    """
    content = picture.info.get("icc_profile")
    if not content:
        return picture
    alpha = picture.getchannel("A") if picture.mode in ("RGBA", "LA") else None
    colours = picture.convert(picture.mode.removesuffix("A")) if alpha else picture
    try:
        if colours.mode == "L" and _space(content) == SPACES["RGB"]:
            colours = colours.convert("RGB")
        transform = _transform(content, colours.mode)
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError) as error:
        log.warning("the picture's colour profile cannot be used (%s); its colours are read as sRGB", error)
        return picture
    if transform is None:
        return picture
    converted = ImageCms.applyTransform(colours, transform)
    if alpha:
        converted.putalpha(alpha)
    return converted


def _space(content: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(content)).profile.xcolor_space


@lru_cache(maxsize=8)
def _transform(content: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a profile to sRGB, None where it changes no colour by more than 1 level of 255."""
    if _space(content) != SPACES.get(mode):
        raise ValueError(f"it is for {_space(content).strip()}, the picture is {mode}")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    channels = len(mode)
    levels = np.linspace(0, 255, PROBES if channels == 3 else 256).round().astype(np.uint8)
    lattice = np.array(list(product(levels, repeat=channels)), np.uint8).reshape(1, -1, channels)
    probe = Image.fromarray(lattice if channels == 3 else lattice[..., 0])
    moved = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - np.asarray(probe.convert("RGB"))
    return None if np.abs(moved).max() <= 1 else transform
