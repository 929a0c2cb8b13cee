"""Exact techniques of the core, each with a context that turns it off from outside; the core has no flags for them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from svd_core.networks import attention, layers
from svd_core.networks.kernels import attention_backends
from svd_core.networks.step_cache import StepCache
from svd_core.networks.transformer import VideoTransformer


@contextmanager
def everywhere(name: str, replacement: Any) -> Iterator[None]:
    """Replace a function in every module of the core that has it under this name. Raises LookupError if none has it."""
    with ExitStack() as stack:
        found = [m for key, m in list(sys.modules.items()) if key.startswith("svd_core.") and hasattr(m, name)]
        if not found:
            raise LookupError(f"the core has no {name}")
        for module in found:
            stack.enter_context(patch.object(module, name, replacement))
        yield


def _plain_accumulate(x: torch.Tensor, update: torch.Tensor, weight: torch.Tensor | float = 1.0) -> torch.Tensor:
    if isinstance(weight, float) and weight == 1.0:
        return x + update
    return (1 - weight) * x + weight * (x + update)  # the blend as the paper writes it


def _conv3d(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest, **more) -> torch.Tensor:
    if x.ndim == 5:
        return F.conv3d(x, weight, bias)
    return F.conv3d(x[..., None], weight, bias, padding=(1, 0, 0))[..., 0]


def _enlarge_then_convolve(conv, x: torch.Tensor, size: tuple[int, int], step_cache: StepCache) -> torch.Tensor:
    return conv(F.interpolate(x, size=size, mode="nearest"))


def _copying_attend() -> Callable[..., torch.Tensor]:
    own = attention.attend  # keeps the slices that GPU kernels need
    return lambda q, k, v, *limit: own(q.contiguous(), k.contiguous(), v.contiguous(), *limit)


def _attention_of_torch() -> Any:
    if not torch.cuda.is_available():
        raise LookupError("attention kernels are chosen on a GPU only")
    return patch.object(attention_backends, "chosen_backend", lambda q, k, v: None)


def _never_cached(self, sources, purpose, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    return compute()


OFF: dict[str, Callable[[], Any]] = {
    "in-place sums and folded blends": lambda: everywhere("accumulate", _plain_accumulate),
    "temporal convolution in 2-D": lambda: patch.object(layers._TemporalConvolution, "_conv_forward", _conv3d),
    "strided attention": lambda: patch.object(attention, "attend", _copying_attend()),
    "attention kernel in our order": lambda: _attention_of_torch(),
    "feed-forward in chunks": lambda: patch.multiple(attention, CHUNK_ELEMENTS=2**60, CHUNK_ELEMENTS_ON_CPU=2**60),
    "results cached between steps": lambda: patch.object(StepCache, "get", _never_cached),
    "shared embedding as biases": lambda: everywhere("can_share_row", lambda *rows: False),
    "joined products": lambda: everywhere("joined_view", lambda parameters: None),
    "last bias through the projection": lambda: patch.object(VideoTransformer, "_combined_bias", lambda *given: None),
    "doubling inside the convolution": lambda: everywhere("enlarge_and_convolve", _enlarge_then_convolve),
    "in-place SiLU": lambda: everywhere("silu", lambda x: F.silu(x)),
}
"""Technique -> context in which it is off. The ablation turns the single-token fold off by passing the token twice."""

DECODER = ("temporal convolution in 2-D", "doubling inside the convolution", "in-place SiLU")
ONLY_DECODER = ("doubling inside the convolution",)
