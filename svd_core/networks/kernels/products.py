"""Other ways to multiply by the large matrices of the transformers: in 8 bits, or summed in half precision.

A network takes one by `models.attention.use_product`; its weights stay as they are, so LoRAs, patches and streaming go
on as before. Approximate, opt-in, not calibrated on real weights.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .choice import attempt, on_device, runs_on
from .weights import weights_of

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Function (x [..., K], weight [N, K], bias [N] or None) -> [..., N], as F.linear."""

EIGHT_BITS = torch.float8_e4m3fn
LARGEST = 448.0
"""Of EIGHT_BITS; scales bring the largest number of a row there."""

MULTIPLE = 16
LEAST_CAPABILITY = (8, 9)


def multiply(layer: nn.Module, x: Tensor, product: Product) -> Tensor:
    """layer(x), by another product where the layer does nothing but a linear layer's work and nothing is trained."""
    other = product is not F.linear and not torch.is_grad_enabled()
    affine = weights_of(layer, nn.Linear, x) if other else None
    return layer(x) if affine is None else product(x, *affine)


def in_eight_bits(device: torch.device | str) -> Product:
    """The product in 8 bits on a device; ValueError where the device has none."""
    device = torch.device(device)
    reason = without_eight_bits(device)
    if reason is not None:
        raise ValueError(f"fp8 products need a card such as RTX 40, L4 or H100, but {reason}; leave them off")
    by_rows = scales_by_rows(device)
    return lambda x, weight, bias=None: product_in_eight_bits(x, weight, bias, by_rows=by_rows)


def without_eight_bits(device: torch.device) -> str | None:
    """Why a device cannot multiply in 8 bits, or None."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.version.hip is not None:
        return "this torch is made for AMD"
    if not hasattr(torch, "_scaled_mm"):
        return f"torch {torch.__version__} has no scaled product"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return "this one has compute capability {}.{}, below {}.{}".format(*capability, *LEAST_CAPABILITY)
    return None


@cache
def scales_by_rows(device: torch.device) -> bool:
    """Whether the device's product takes a scale for each row; otherwise it is one for each matrix."""
    one = torch.ones(2 * MULTIPLE, MULTIPLE, device=device, dtype=torch.bfloat16)
    try:
        product_in_eight_bits(one, one, None, by_rows=True)
    except RuntimeError:  # older cards and versions of torch say no in this way
        return False
    return True


def product_in_eight_bits(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, by_rows: bool = True) -> Tensor:
    """x @ weight.T + bias with both rounded to 8 bits after scaling; F.linear where a side is no multiple of 16.

    by_rows: a scale for each row of x and of the weight, otherwise one for each of the two. Sums are float32.
    """
    if weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE:
        return F.linear(x, weight, bias)
    (left, left_scale), (right, right_scale) = (
        quantised(part, by_rows=by_rows) for part in (x.reshape(-1, x.shape[-1]), weight)
    )
    # Scales by rows come with bfloat16 results only; its rounding is a tenth of that to 8 bits.
    out_dtype = torch.bfloat16 if by_rows and x.is_cuda else x.dtype
    scales = (left_scale, right_scale.t()) if by_rows else (left_scale, right_scale)
    out = torch._scaled_mm(left, right.t(), *scales, out_dtype=out_dtype, use_fast_accum=x.is_cuda).to(x.dtype)
    if bias is not None:
        out += bias
    return out.view(*x.shape[:-1], -1)


def quantised(x: Tensor, *, by_rows: bool = True) -> tuple[Tensor, Tensor]:
    """x [M, K] in 8 bits, and the float32 scales ([M, 1] or []) by which it is to be multiplied."""
    if by_rows and runs_on(x) and x.stride(1) == 1:
        with on_device(x):
            fused = attempt("quantisation", lambda: _quantised(x))
        if fused is not None:
            return fused
    largest = x.abs().amax(dim=1, keepdim=True) if by_rows else x.abs().amax()
    scale = largest.float().clamp_min(torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (x / scale).to(EIGHT_BITS).contiguous(), scale


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    from . import triton_norms as source

    rows, channels = x.shape
    out = torch.empty(rows, channels, dtype=EIGHT_BITS, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    source.quantise[(rows,)](x, out, scale, channels, x.stride(0), channels, BLOCK=1024)
    return out, scale


def summed_in_half() -> Product:
    """F.linear whose float16 sums are float16 too; ValueError where torch cannot."""
    settings = torch.backends.cuda.matmul
    if not hasattr(settings, "allow_fp16_accumulation"):
        raise ValueError(f"torch {torch.__version__} cannot sum in float16; use torch 2.7 or newer")

    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        before, settings.allow_fp16_accumulation = settings.allow_fp16_accumulation, True
        try:
            return F.linear(x, weight, bias)
        finally:
            settings.allow_fp16_accumulation = before

    return product
