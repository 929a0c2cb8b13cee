"""Other matrix products for the transformers: rounded to fp8, or accumulated in float16.

`networks.attention.use_product` installs one in a network. The weights stay as they are, so LoRAs, patches and weight
streaming keep working. Both products are approximate, opt-in and not calibrated on real weights.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dispatch import can_run, on_device, try_kernel, warn_once
from .weights import weights_of

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Function (x [..., K], weight [N, K], bias [N] or None) -> [..., N], like F.linear."""

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
"""Largest value of FP8. Each row is scaled so that its largest element becomes this value."""

MULTIPLE = 16
"""Both sides of a matrix must be multiples of this for an fp8 product."""

LEAST_CAPABILITY = (8, 9)


def multiply(layer: nn.Module, x: Tensor, product: Product) -> Tensor:
    """Return layer(x), computed by `product` if that is not F.linear.

    Layers that do more than torch's nn.Linear run their own forward, with a warning in the log. All layers do so while
    gradients are enabled.
    """
    if product is F.linear or torch.is_grad_enabled():
        return layer(x)
    with weights_of(layer, nn.Linear, x) as affine:
        if affine is not None:
            return product(x, *affine)
    warn_once(
        f"layers of {type(layer).__module__}.{type(layer).__qualname__} multiply by themselves, so the products chosen "
        'for this model are not used there; choose "exact" to load it without them'
    )
    return layer(x)


# fp8


def fp8_product(device: torch.device | str) -> Product:
    """Return the fp8 product for a device. Raises ValueError if the device has none."""
    device = torch.device(device)
    reason = fp8_unsupported_reason(device)
    if reason is not None:
        raise ValueError(f"fp8 products need a card such as RTX 40, L4 or H100, but {reason}; leave them off")
    by_rows = supports_row_scales(device)
    return lambda x, weight, bias=None: fp8_linear(x, weight, bias, by_rows=by_rows)


def fp8_unsupported_reason(device: torch.device) -> str | None:
    """Return why a device cannot multiply in fp8, or None if it can."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.version.hip is not None:
        return "this torch is built for AMD"
    if not hasattr(torch, "_scaled_mm"):
        return f"torch {torch.__version__} has no scaled product"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return "this one has compute capability {}.{}, below {}.{}".format(*capability, *LEAST_CAPABILITY)
    return None


@cache
def supports_row_scales(device: torch.device) -> bool:
    """Return whether the device's fp8 product accepts one scale per row instead of one per matrix."""
    one = torch.ones(2 * MULTIPLE, MULTIPLE, device=device, dtype=torch.bfloat16)
    try:
        fp8_linear(one, one, None, by_rows=True)
    except RuntimeError:  # what older cards and versions of torch raise
        return False
    return True


def fp8_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, by_rows: bool = True) -> Tensor:
    """Return x @ weight.T + bias with x and weight scaled and rounded to fp8; sums are float32.

    by_rows: one scale per row of x and of the weight; otherwise one scale per matrix. Falls back to F.linear if a side
    of the weight is not a multiple of 16.
    """
    if weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE:
        return F.linear(x, weight, bias)
    (left, left_scale), (right, right_scale) = (
        quantise_fp8(part, by_rows=by_rows) for part in (x.reshape(-1, x.shape[-1]), weight)
    )
    # Row scales need a bfloat16 result, whose rounding is a tenth of that to fp8.
    out_dtype = torch.bfloat16 if by_rows and x.is_cuda else x.dtype
    scales = (left_scale, right_scale.t()) if by_rows else (left_scale, right_scale)
    out = torch._scaled_mm(left, right.t(), *scales, out_dtype=out_dtype, use_fast_accum=x.is_cuda).to(x.dtype)
    if bias is not None:
        out += bias
    return out.view(*x.shape[:-1], -1)


def quantise_fp8(x: Tensor, *, by_rows: bool = True) -> tuple[Tensor, Tensor]:
    """Return x [M, K] in fp8 and the float32 scales, [M, 1] or [], that restore it by multiplication."""
    if by_rows and can_run(x) and x.stride(1) == 1:
        with on_device(x):
            fused = try_kernel("quantisation", lambda: _quantise_rows(x))
        if fused is not None:
            return fused
    largest = x.abs().amax(dim=1, keepdim=True) if by_rows else x.abs().amax()
    scale = largest.float().clamp_min(torch.finfo(torch.float32).tiny * FP8_MAX) / FP8_MAX
    return (x / scale).to(FP8).contiguous(), scale


def _quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    from . import triton_source

    rows, channels = x.shape
    out = torch.empty(rows, channels, dtype=FP8, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    triton_source.quantise[(rows,)](x, out, scale, channels, x.stride(0), channels, BLOCK=1024)
    return out, scale


# float16 accumulation


def fp16_sum_product() -> Product:
    """Return F.linear with float16 accumulation of float16 inputs. Raises ValueError if this torch has no such switch.

    The switch is process-wide, so it is set around each product only.
    """
    settings = torch.backends.cuda.matmul
    if not hasattr(settings, "allow_fp16_accumulation"):
        raise ValueError(f"torch {torch.__version__} cannot accumulate in float16; use torch 2.7 or newer")

    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        before, settings.allow_fp16_accumulation = settings.allow_fp16_accumulation, True
        try:
            return F.linear(x, weight, bias)
        finally:
            settings.allow_fp16_accumulation = before

    return product
