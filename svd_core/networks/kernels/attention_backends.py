"""Choose the fastest of torch's attention kernels on CUDA, by timing each shape once.

All kernels compute the same and differ in rounding. On other devices torch chooses.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    name: getattr(SDPBackend, value)
    for name, value in {
        "flash": "FLASH_ATTENTION",
        "cudnn": "CUDNN_ATTENTION",
        "efficient": "EFFICIENT_ATTENTION",
        "math": "MATH",
    }.items()
    if hasattr(SDPBackend, value)
}
"""Kernels by name, in order of preference. The cuDNN kernel needs torch 2.5."""

MARGIN = 0.9
"""A less preferred kernel must take less than this share of the time, so that noise does not change the choice."""

_forced: list[str] = []
_fastest: dict[tuple, str | None] = {}


def force_backend(name: str | None) -> None:
    """Use one kernel of BACKENDS on CUDA, or the fastest for None. Raises ValueError for an unknown name."""
    if name is not None and name not in BACKENDS:
        raise ValueError(f"attention kernel {name!r} is unknown; use one of {', '.join(BACKENDS)}")
    _forced[:] = [] if name is None else [name]


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return scaled dot-product attention of [N, heads, length, head width]."""
    if q.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v)
    name = _forced[0] if _forced else fastest_backend(q, k, v)
    if name is None:
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(BACKENDS[name]):
        return F.scaled_dot_product_attention(q, k, v)


def fastest_backend(
    q: Tensor, k: Tensor, v: Tensor, time_of: Callable[[str, Tensor, Tensor, Tensor], float | None] | None = None
) -> str | None:
    """Return the name of the fastest kernel for these shapes, strides, dtype and device; None lets torch choose.

    The first call for a shape times every kernel except math, and later calls reuse the choice. time_of: function
    (name, q, k, v) -> seconds, or None if the kernel does not support the input; it replaces the timing in tests.
    """
    key = (q.shape, k.shape, q.stride(), q.dtype, q.device)
    if key not in _fastest:
        times = {name: (time_of or _seconds)(name, q, k, v) for name in BACKENDS if name != "math"}
        best = None
        for name, seconds in times.items():
            if seconds is not None and (best is None or seconds < MARGIN * times[best]):
                best = name
        _fastest[key] = best
    return _fastest[key]


def _seconds(name: str, q: Tensor, k: Tensor, v: Tensor) -> float | None:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    try:
        with sdpa_kernel(BACKENDS[name]):
            F.scaled_dot_product_attention(q, k, v)
            begin.record()
            for _ in range(3):
                F.scaled_dot_product_attention(q, k, v)
            end.record()
            end.synchronize()
    except RuntimeError:  # this kernel does not support the shape, the dtype or the device
        return None
    return begin.elapsed_time(end)
