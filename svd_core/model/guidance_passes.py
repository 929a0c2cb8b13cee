"""How guidance runs on a UNet: conditional and unconditional clip in one pass, or one pass after the other."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..memory import available_bytes
from ..networks.activation_bytes import unet_activation_bytes
from ..networks.attention import CHUNK_ELEMENTS
from ..networks.config import UNetConfig
from .retry import FallbackStep, smaller_chunks

GUIDANCE_MODES = ("in turn", "together")
"""One pass per condition, or one pass over the clips of all conditions."""

LARGEST = 2**16
"""Latent pixels of a clip up to which one pass over two clips is faster than two passes.

Three levels down these are 1024 rows of 1280 channels, for a matrix product 80 tiles of 128x128: fewer than the 100 to
150 multiprocessors of a large card, which a second clip then fills better (14 frames of 576x320 are 40,320 pixels). At
14 frames of 1024x576, 129,024 pixels and 160 tiles, one clip fills the card, and two take twice the time.
"""


def gains(frames: int, height: int, width: int) -> bool:
    """Return whether one pass over two clips of latents [frames, 4, height, width] is faster than two passes."""
    return frames * height * width <= LARGEST


def fixed_mode(device: torch.device) -> str | None:
    """Return "in turn" on a CPU, so that a clip is bit-exact there, planned or not; None lets free memory decide."""
    return "in turn" if device.type == "cpu" else None


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


def set_guidance_mode(unet: nn.Module, mode: str | None) -> None:
    """Set the guidance mode of a UNet, one of GUIDANCE_MODES; None decides by free memory before every pass."""
    if mode not in (None, *GUIDANCE_MODES):
        raise ValueError(f"guidance mode {mode!r} is unknown; use one of {', '.join(GUIDANCE_MODES)}")
    unet.clips_per_pass = None if mode is None else 1 + GUIDANCE_MODES.index(mode)


def shares_a_pass(unet: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    """Return whether several conditions of the clip `x` [T, 4, h, w] run in one pass of a UNet computing in `dtype`.

    On a CPU only if `set_guidance_mode` was called for it, because the clip must not depend on free memory.
    """
    if unet.clips_per_pass is not None or x.device.type == "cpu":
        return unet.clips_per_pass == 2
    size = (len(x), *x.shape[-2:])
    # Measuring free memory takes time; do it only where the answer matters.
    return gains(*size) and best_mode(unet.config, *size, dtype.itemsize, available_bytes(x.device)) == "together"


def smaller_passes(unet: nn.Module, device: torch.device, conditions: int) -> Iterator[FallbackStep]:
    """Yield steps that cut a pass over `conditions` clips: guidance in turn, then smaller feed-forward chunks."""
    may_share = unet.clips_per_pass == 2 or (unet.clips_per_pass is None and device.type != "cpu")
    if conditions > 1 and may_share:
        yield FallbackStep("guidance in turn", lambda: set_guidance_mode(unet, "in turn"))
    yield from smaller_chunks(unet, device)
