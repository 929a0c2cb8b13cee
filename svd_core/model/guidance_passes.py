"""How guidance runs on a UNet: conditional and unconditional clip in one pass, or one pass after the other."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..memory import available_bytes
from .guidance_modes import GUIDANCE_MODES, best_mode, gains, mode_on_cpu
from .retry import FallbackStep, smaller_chunks


def fixed_mode(device: torch.device, frames: int, height: int, width: int) -> str | None:
    """Return the mode that the size of latents [frames, 4, height, width] decides alone; None lets memory decide.

    On a CPU it must be the size alone, so that a clip is bit-exact there, planned or not.
    """
    return mode_on_cpu(frames, height, width) if device.type == "cpu" else None


def set_guidance_mode(unet: nn.Module, mode: str | None) -> None:
    """Set the guidance mode of a UNet, one of GUIDANCE_MODES; None decides before every pass.

    On a CPU the size of the clip then decides, elsewhere free memory too.
    """
    if mode not in (None, *GUIDANCE_MODES):
        raise ValueError(f"guidance mode {mode!r} is unknown; use one of {', '.join(GUIDANCE_MODES)}")
    unet.clips_per_pass = None if mode is None else 1 + GUIDANCE_MODES.index(mode)


def shares_a_pass(unet: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    """Return whether several conditions of the clip `x` [T, 4, h, w] run in one pass of a UNet computing in `dtype`.

    Unless `set_guidance_mode` chose, the size decides, and on other devices than a CPU the free memory too.
    """
    if unet.clips_per_pass is not None:
        return unet.clips_per_pass == 2
    size = (len(x), *x.shape[-2:])
    fixed = fixed_mode(x.device, *size)
    if fixed is not None:
        return fixed == "together"
    # Measuring free memory takes time; do it only where the answer matters.
    return gains(*size) and best_mode(unet.config, *size, dtype.itemsize, available_bytes(x.device)) == "together"


def smaller_passes(unet: nn.Module, device: torch.device, conditions: int) -> Iterator[FallbackStep]:
    """Yield steps that cut a pass over `conditions` clips: guidance in turn, then smaller feed-forward chunks."""
    if conditions > 1 and unet.clips_per_pass != 1:
        yield FallbackStep("guidance in turn", lambda: set_guidance_mode(unet, "in turn"))
    yield from smaller_chunks(unet, device)
