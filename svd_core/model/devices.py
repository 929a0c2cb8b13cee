"""Devices and dtypes by their names, checked before anything is loaded."""

import logging

import torch

from .half_precision import check_half

log = logging.getLogger("svd_reel")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "stored": None}
"""Names of dtypes that weights are cast to; "stored" keeps those of the file."""

AUTO = "auto"
TESTED = ("mps", "xpu")
"""Devices on which float16 is the default only after a test of its error."""

_SHORT = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def pick_device(name: str | torch.device) -> torch.device:
    """Return the named device, or the fastest available for "auto". Raises ValueError for one that is unavailable."""
    if name == "auto":
        return _fastest()
    if not str(name):
        raise ValueError("no device given; use cpu, or auto for the fastest available")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        # torch accepts any index behind "cpu".
        available = not (device.type == "cpu" and device.index)
    except (RuntimeError, AssertionError):  # torch without CUDA raises AssertionError
        available = False
    if not available:
        raise ValueError(f"device {name} is not available; use cpu, or auto for the fastest available")
    return device


def default_dtype(device: torch.device) -> str:
    """Return the name of the dtype in which a model is loaded on a device: half precision where that is fast.

    On MPS and XPU only if a small evaluation in float16 is close to float32 there; the log says what was measured.
    """
    if device.type == "cuda":
        return "float16"
    if device.type not in TESTED:
        return "float32"
    check = check_half(device)
    log.log(logging.INFO if check.allowed else logging.WARNING, check.text())
    return "float16" if check.allowed else "float32"


def dtype_named(name: str | None, device: torch.device) -> str:
    """Return the name of DTYPES that an option means: None and "auto" stand for the default of the device."""
    return default_dtype(device) if name in (None, AUTO) else name


def parse_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """Return the dtype of a name of DTYPES, such as "float16"; None and dtypes are returned as they are."""
    if name is None or isinstance(name, torch.dtype):
        return name
    known = _SHORT.get(name, name)
    if known not in DTYPES:
        raise ValueError(f"dtype {name!r} is unknown; use one of {', '.join(DTYPES)}")
    return DTYPES[known]


def bfloat16_units() -> str | None:
    """Return which units of this processor multiply in bfloat16, None if there are none or this torch cannot tell."""
    for name, units in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX512-BF16")):
        supported = getattr(torch.cpu, name, None)
        if supported is not None and supported():
            return units
    return None


def _fastest() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
