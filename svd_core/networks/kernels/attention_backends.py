"""Choose among torch's attention kernels on CUDA in a fixed order, or use the attention function of a host.

All kernels compute the same and differ in rounding, so the order depends on the card and the shape alone: one seed
gives the same clip in every session. On other devices torch chooses.
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...memory import is_out_of_memory

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

CUDNN_FIRST = (9, 0)
"""Cards from this capability (H100) prefer cuDNN for long sequences; torch's flash kernel is of the generation before.
"""

LONG = 512
"""Tokens of a long sequence; the sequences over frames are shorter."""

HostAttention = Callable[[Tensor, Tensor, Tensor, int], Tensor | None]
"""Function (q, k, v, heads) -> out, all [N, length, channels] with the heads side by side; None where it is not wanted.
"""

_forced: list[str] = []
_chosen: dict[tuple, str | None] = {}
_hosts: list[HostAttention] = []


def force_backend(name: str | None) -> None:
    """Use one kernel of BACKENDS on CUDA, or the preferred one for None. Raises ValueError for an unknown name."""
    if name is not None and name not in BACKENDS:
        raise ValueError(f"attention kernel {name!r} is unknown; use one of {', '.join(BACKENDS)}")
    _forced[:] = [] if name is None else [name]


def register_attention(function: HostAttention) -> None:
    """Register a host's attention function for the self-attention over pixels, the only expensive one."""
    if function not in _hosts:
        _hosts.append(function)


def host_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor | None:
    """Return the attention [N, S, C] by a registered function, or None if none wants it or gradients are needed."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    return next((out for out in (function(q, k, v, heads) for function in _hosts) if out is not None), None)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return scaled dot-product attention of [N, heads, length, head width]."""
    if q.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v)
    name = chosen_backend(q, k, v)
    if name is None:
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(BACKENDS[name]):
        return F.scaled_dot_product_attention(q, k, v)


def chosen_backend(
    q: Tensor, k: Tensor, v: Tensor, takes: Callable[[str, Tensor, Tensor, Tensor], bool] | None = None
) -> str | None:
    """Return the name of the kernel for these shapes, strides, dtype and device; None if no fused kernel takes them.

    It is the first in the order of preference that runs. takes: function (name, q, k, v), replaces the trial in tests.
    """
    if _forced:
        return _forced[0]
    key = (q.shape, k.shape, q.stride(), q.dtype, q.device)
    if key not in _chosen:
        order = preferred_backends(torch.cuda.get_device_capability(q.device), q.shape[-2])
        _chosen[key] = next((name for name in order if (takes or _takes)(name, q, k, v)), None)
    return _chosen[key]


def preferred_backends(capability: tuple[int, int], length: int) -> list[str]:
    """Return the fused kernels in order of preference for a card and the length of its sequences."""
    names = [name for name in BACKENDS if name != "math"]
    cudnn_first = torch.version.hip is None and capability >= CUDNN_FIRST and length >= LONG
    return sorted(names, key=lambda name: name != "cudnn") if cudnn_first else names


def stores_scores(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether attention of these tensors keeps a score for every pair of tokens, as without a fused kernel.

    Meta tensors count as fused. CUDA counts as fused while gradients are enabled, because slices would save nothing:
    the scores are kept for the backward pass.
    """
    if q.is_meta or torch.compiler.is_compiling():
        return False
    if q.device.type == "cpu":
        return any(part.stride(-1) != 1 for part in (q, k, v))  # what torch's kernel for CPUs does not take
    if q.device.type == "cuda":
        return not torch.is_grad_enabled() and chosen_backend(q, k, v) in (None, "math")
    return True


def may_store_scores(device: torch.device) -> bool:
    """Return whether some attention on a device has kept its scores so far (`stores_scores`)."""
    if device.type == "cuda":
        return "math" in _forced or any(key[-1] == device and name is None for key, name in _chosen.items())
    return device.type != "cpu"


def _takes(name: str, q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether a kernel supports the shape, the dtype and the device, by running it once."""
    try:
        with sdpa_kernel(BACKENDS[name]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch gives the reasons of every refusal as warnings
            F.scaled_dot_product_attention(q, k, v)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return False
    return True
