"""Both branches of guidance in one pass of the UNet, or in turn: where one pass is faster, and the memory is there."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..condition import Condition, DeepFeatures
from ..memory import available_bytes
from ..networks.activation_bytes import unet_activation_bytes
from ..networks.attention import CHUNK_ELEMENTS
from ..networks.config import UNetConfig
from ..sampling.denoiser import denoise_with
from .retry import FallbackStep, retrying, smaller_chunks

GUIDANCE_MODES = ("in turn", "together")
"""How the branches run: one pass after the other, or one pass over two clips."""

LARGEST = 2**16
"""Latent pixels of a clip up to which two branches in one pass gain.

Three levels down these are 1024 rows of 1280 channels, for a matrix product 80 tiles of 128x128: fewer than the 100 to
150 multiprocessors of a large card, which two branches then fill better (14 frames of 576x320 are 40,320 pixels). At 14
frames of 1024x576, 129,024 pixels and 160 tiles, one branch fills it, and two take twice the time.
"""


def gains(frames: int, height: int, width: int) -> bool:
    """Whether latents [frames, 4, height, width] are small enough for two branches in one pass to be faster."""
    return frames * height * width <= LARGEST


def fixed_mode(device: torch.device) -> str | None:
    """In turn on the CPU, so that a clip is the same there to the last bit, planned or not; None: memory tells."""
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
    """Return the mode for latents [frames, 4, height, width] with `free` bytes for activations (None: unknown)."""
    if free is None or not gains(frames, height, width):
        return "in turn"
    size = (config, frames, height, width, itemsize)
    return GUIDANCE_MODES[unet_activation_bytes(*size, videos=2, chunk_elements=chunk_elements) <= free]


def set_guidance_mode(unet: nn.Module, way: str | None) -> None:
    """Set how a UNet runs guidance, a mode of GUIDANCE_MODES; None decides by free memory at every pass."""
    if way not in (None, *GUIDANCE_MODES):
        raise ValueError(f"branches of guidance {way!r} are unknown; use one of {', '.join(GUIDANCE_MODES)}")
    unet.clips_per_pass = None if way is None else 1 + GUIDANCE_MODES.index(way)


def denoise_in_passes(
    unet: nn.Module,
    x: Tensor,
    sigma: float | Tensor,
    condition: Condition | Sequence[Condition],
    *,
    dtype: torch.dtype,
    features: DeepFeatures | None = None,
) -> Tensor:
    """`denoise_with` of a UNet that computes in `dtype`; several conditions in one pass or in turn.

    On the CPU several never share a pass unless `set_guidance_mode` says so, so that a clip is the same there to the
    last bit whatever memory is free. Where memory runs out it goes on in turn, then in smaller pieces.
    """
    several = isinstance(condition, (tuple, list))
    if several and features is not None:
        raise ValueError(f"features belong to one condition, but {len(condition)} were given; denoise them in turn")
    together = several and _share_a_pass(unet, x, dtype)

    def estimate(told: Condition | Sequence[Condition]) -> Tensor:
        return denoise_with(unet, x, sigma, told, dtype=dtype, features=features)

    def work() -> Tensor:
        if several and not (together and unet.clips_per_pass != 1):
            return torch.stack([estimate(one) for one in condition])
        return estimate(condition)

    return retrying(work, _smaller_passes(unet, x.device, together))


def _share_a_pass(unet: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    if unet.clips_per_pass is not None or x.device.type == "cpu":
        return unet.clips_per_pass == 2
    size = (len(x), *x.shape[-2:])
    # What is free is asked for only where it matters.
    return gains(*size) and best_mode(unet.config, *size, dtype.itemsize, available_bytes(x.device)) == "together"


def _smaller_passes(unet: nn.Module, device: torch.device, together: bool) -> Iterator[FallbackStep]:
    if together:
        yield "guidance in turn", lambda: set_guidance_mode(unet, "in turn")
    yield from smaller_chunks(unet, device)
