"""How guidance runs on a UNet: conditional and unconditional clip in one pass, or one pass after the other."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..memory import available_bytes
from .guidance_modes import GUIDANCE_MODES, best_mode, gains
from .retry import FallbackStep, smaller_chunks


def fixed_mode(device: torch.device) -> str | None:
    """Return "in turn" on a CPU, so that a clip is bit-exact there, planned or not; None lets free memory decide."""
    return "in turn" if device.type == "cpu" else None


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
