"""Which guidance mode is fastest, by the size of the clip and the free memory. Needs no torch."""

from ..networks.activation_bytes import CHUNK_ELEMENTS, unet_activation_bytes
from ..networks.config import UNetConfig

GUIDANCE_MODES = ("in turn", "together")
"""One pass per condition, or one pass over the clips of all conditions."""

LARGEST = 2**16
"""Latent pixels of a clip up to which one pass over two clips is faster than two passes.

Three levels down these are 1024 rows of 1280 channels, for a matrix product 80 tiles of 128x128: fewer than the 100 to
150 multiprocessors of a large card, which a second clip then fills better (14 frames of 576x320 are 40,320 pixels). At
14 frames of 1024x576, 129,024 pixels and 160 tiles, one clip fills the card, and two take twice the time.
"""

LARGEST_ON_CPU = 2**11
"""The same on a CPU: 8 frames of 128x128.

Measured with one thread of an AMD EPYC (AVX-512), processor time, 3 interleaved rounds: two clips in one pass are 1.66
(nano's UNet) and 1.48 times (64 channels) as fast at 256 latent pixels, 1.16 and 1.17 at 1,024, 1.10 and 1.19 at 2,048,
1.01 and 1.04 at 3,584, and slower from 25,600. `svd-reel doctor` measures it again on any machine.
"""

_limit = [LARGEST]


def use_measured_limit(pixels: int | None) -> None:
    """Use a measured number of latent pixels in place of LARGEST in this process; None returns to LARGEST."""
    _limit[0] = LARGEST if pixels is None else pixels


def gains(frames: int, height: int, width: int) -> bool:
    """Return whether one pass over two clips of latents [frames, 4, height, width] is faster than two passes."""
    return frames * height * width <= _limit[0]


def mode_on_cpu(frames: int, height: int, width: int) -> str:
    """Return the mode on a CPU. The size of the clip alone decides, so that a clip has the same bits everywhere."""
    return GUIDANCE_MODES[frames * height * width <= LARGEST_ON_CPU]


def best_mode(
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    itemsize: int,
    free: int | None,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> str:
    """Return the fastest mode for latents [frames, 4, height, width] with `free` bytes for activations.

    `free` of None means unknown, and gives "in turn".
    """
    if free is None or not gains(frames, height, width):
        return "in turn"
    size = (config, frames, height, width, itemsize)
    return GUIDANCE_MODES[unet_activation_bytes(*size, videos=2, chunk_elements=chunk_elements) <= free]
