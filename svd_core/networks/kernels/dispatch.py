"""Decide whether a Triton kernel runs: the chosen mode, the device, Triton itself, and earlier failures."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from ...memory import is_out_of_memory

log = logging.getLogger("svd_reel")

T = TypeVar("T")

MODES = ("plain", "auto")
"""plain: PyTorch only, the default; auto: Triton kernels where they run. No GPU benchmark has shown a gain yet."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LEAST_CAPABILITY = (8, 0)
"""The oldest cards that Triton supports. On older ones its compiler may end the process."""

AMD_FAMILIES = ("gfx9", "gfx11", "gfx12")
"""AMD cards that Triton compiles for. On others (RX 6000: gfx1030) its compiler prints thousands of lines a kernel."""

_mode = [MODES[0]]
_failed: set[str] = set()
_logged: set[str] = set()


def use_kernels(mode: str) -> str:
    """Set the mode for the whole process, one of MODES, and return the previous one.

    Raises ValueError for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"kernels {mode!r} is unknown; use one of {', '.join(MODES)}")
    before, _mode[0] = _mode[0], mode
    return before


def describe(device: torch.device) -> str:
    """Return in words what norms and gates run as on a device."""
    reason = "chosen" if _mode[0] == "plain" else unsupported_reason(device)
    return "Triton kernels" if reason is None else f"plain PyTorch ({reason})"


@cache
def unsupported_reason(device: torch.device) -> str | None:
    """Return why kernels cannot run on a device, or None if they can."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.version.hip is not None:
        architecture = torch.cuda.get_device_properties(device).gcnArchName
        if not architecture.startswith(AMD_FAMILIES):
            return f"Triton does not compile for {architecture}"
    elif (capability := torch.cuda.get_device_capability(device)) < LEAST_CAPABILITY:
        return "compute capability {}.{} is below {}.{}".format(*capability, *LEAST_CAPABILITY)
    try:
        import triton  # noqa: F401  takes a second to import, so only where a GPU is
    except Exception as error:  # a Triton that does not match torch or the driver fails in many ways
        return f"Triton cannot be imported: {error}"
    return None


def can_run(x: Tensor) -> bool:
    """Return whether kernels may process this tensor."""
    if _mode[0] == "plain" or x.dtype not in DTYPES or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    reason = unsupported_reason(x.device)
    if x.device.type == "cuda":
        _log_once(
            "norms and gates run as "
            + (
                "Triton kernels, which compile once in the first pass"
                if reason is None
                else f"plain PyTorch ({reason})"
            )
        )
    return reason is None and x.numel() > 0


def try_kernel(kernel: str, launch: Callable[[], T]) -> T | None:
    """Return `launch()`, or None if it fails now or has failed before. `kernel` names it in the warning.

    Kernels compile before they write anything, so the plain path finds its input unchanged. Running out of memory is
    raised, not treated as a failed kernel.
    """
    if kernel in _failed:
        return None
    try:
        return launch()
    except Exception as error:  # compilers, drivers and versions of Triton fail in many ways
        if is_out_of_memory(error):
            raise
        _failed.add(kernel)
        log.warning("the %s kernel failed; using plain PyTorch instead: %s", kernel, _first_line(error))
        return None


def on_device(x: Tensor) -> AbstractContextManager:
    """Return a context in which the tensor's device is current; Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def warn_once(message: str) -> None:
    """Log a warning, once in this process."""
    _log_once(message, logging.WARNING)


def _log_once(message: str, level: int = logging.INFO) -> None:
    if message not in _logged:
        _logged.add(message)
        log.log(level, "%s", message)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
