"""Exact techniques of the core, each with a way to turn it off from outside; the core itself carries no flags."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from svd_core.networks import attention, attention_kernels, kernels, layers
from svd_core.networks.kernels import choice
from svd_core.networks.transformer import VideoTransformer


@contextmanager
def everywhere(name: str, replacement: Any) -> Iterator[None]:
    """Replace a function in every module of the core that has it under this name."""
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
    return (1 - weight) * x + weight * (x + update)  # the blend as it is written


def _conv3d(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest, **more) -> torch.Tensor:
    if x.ndim == 5:
        return F.conv3d(x, weight, bias)
    return F.conv3d(x[..., None], weight, bias, padding=(1, 0, 0))[..., 0]


def _enlarge_then_convolve(conv, x: torch.Tensor, size: tuple[int, int], kept: Any) -> torch.Tensor:
    return conv(F.interpolate(x, size=size, mode="nearest"))


def _copying_attend() -> Callable[..., torch.Tensor]:
    own = attention.attend  # with its slices, which kernels on a GPU need
    return lambda q, k, v: own(q.contiguous(), k.contiguous(), v.contiguous())


def _untimed_attention() -> Any:
    if not torch.cuda.is_available():
        raise LookupError("attention kernels are chosen on a GPU only")
    return patch.object(attention_kernels, "fastest_backend", lambda q, k, v: None)


def _never_kept(self, sources, purpose, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    return compute()


def _kept_class() -> type:
    from svd_core.networks.reused_work import Kept

    return Kept


def _temporal() -> type:
    return layers._TemporalConvolution


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Norms and gates by PyTorch alone; LookupError where they are that already."""
    _demand_kernels()
    before = kernels.use_kernels("plain")
    try:
        yield
    finally:
        kernels.use_kernels(before)


@contextmanager
def picture_norms() -> Iterator[None]:
    """The kernel of GroupNorm writes pictures alone, which are then copied to tokens."""
    _demand_kernels()
    own = kernels.group_norm

    def pictures(norm, x, num_frames=1, *, activate, tokens=False):
        made = own(norm, x, num_frames, activate=activate)
        return made.flatten(2).transpose(1, 2).contiguous() if tokens and made is not None else made

    with patch.object(kernels, "group_norm", pictures):
        yield


def _demand_kernels() -> None:
    reason = choice.unsuitable(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason is not None:
        raise LookupError(f"no kernels run here: {reason}")


OFF: dict[str, Callable[[], Any]] = {
    "in-place sums and folded blends": lambda: everywhere("accumulate", _plain_accumulate),
    "temporal convolution in 2-D": lambda: patch.object(_temporal(), "_conv_forward", _conv3d),
    "strided attention": lambda: patch.object(attention, "attend", _copying_attend()),
    "attention kernel chosen by timing": lambda: _untimed_attention(),
    "feed-forward in pieces": lambda: patch.multiple(attention, NUMBERS_PER_CALL=2**60, NUMBERS_PER_CALL_ON_CPU=2**60),
    "results kept between steps": lambda: patch.object(_kept_class(), "get", _never_kept),
    "equal rows as biases": lambda: everywhere("wants_equal_rows", lambda *rows: False),
    "joined products": lambda: everywhere("joined", lambda parameters: None),
    "last bias through the projection": lambda: patch.object(VideoTransformer, "_carrying_bias", lambda *given: None),
    "doubling inside the convolution": lambda: everywhere("enlarge_and_convolve", _enlarge_then_convolve),
    "in-place SiLU": lambda: everywhere("silu", lambda x: F.silu(x)),
    "Triton kernels": lambda: plain_kernels(),
    "tokens written by the norm": lambda: picture_norms(),
}
"""Technique -> context in which it is off. The single-token fold is turned off by giving the token twice."""

DECODER = ("temporal convolution in 2-D", "doubling inside the convolution", "in-place SiLU", "Triton kernels")
ONLY_DECODER = ("doubling inside the convolution",)
