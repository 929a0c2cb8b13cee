"""Whether a kernel runs: the user's choice, the device, Triton, and what failed before."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from ...memory import is_shortage

log = logging.getLogger("svd_reel")

T = TypeVar("T")

MODES = ("auto", "plain")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LEAST_CAPABILITY = (8, 0)
"""What Triton supports; on older cards its compiler may end the process."""

_mode = ["auto"]
_failed: set[str] = set()
_said: set[str] = set()


def use_kernels(mode: str) -> str:
    """Choose for the whole process: "auto", kernels where they run, or "plain", PyTorch alone. Returns the old mode."""
    if mode not in MODES:
        raise ValueError(f"kernels {mode!r} is unknown; use one of {', '.join(MODES)}")
    before, _mode[0] = _mode[0], mode
    return before


def describe(device: torch.device) -> str:
    """In words, what norms and gates run as on a device."""
    reason = "chosen" if _mode[0] == "plain" else unsuitable(device)
    return "Triton kernels" if reason is None else f"plain PyTorch ({reason})"


@cache
def unsuitable(device: torch.device) -> str | None:
    """Why no kernel runs on a device, or None."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < LEAST_CAPABILITY:
        return "compute capability {}.{} is below {}.{}".format(*capability, *LEAST_CAPABILITY)
    try:
        import triton  # noqa: F401  a second of import that only a GPU is worth
    except Exception as error:  # a Triton that does not fit its surroundings fails in many ways
        return f"Triton cannot be imported: {error}"
    return None


def runs_on(x: Tensor) -> bool:
    """Whether kernels are to take this tensor."""
    if _mode[0] == "plain" or x.dtype not in DTYPES or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    reason = unsuitable(x.device)
    if x.device.type == "cuda":
        _say_once("norms and gates run as " + ("Triton kernels" if reason is None else f"plain PyTorch ({reason})"))
    return reason is None and x.numel() > 0


def attempt(kernel: str, launch: Callable[[], T]) -> T | None:
    """`launch()`, or None where it fails, then and ever after; `kernel` names it in the warning.

    Compilation comes before anything is written, so that the plain path finds its input as it was.
    """
    if kernel in _failed:
        return None
    try:
        return launch()
    except Exception as error:  # compilers, drivers and versions of Triton fail in many ways
        if is_shortage(error):
            raise
        _failed.add(kernel)
        log.warning("the %s kernel failed and plain PyTorch takes its place: %s", kernel, _first_line(error))
        return None


def on_device(x: Tensor) -> AbstractContextManager:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        log.info("%s", sentence)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
