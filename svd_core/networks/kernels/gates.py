"""The gate of a feed-forward layer as one kernel behind its matrix product."""

import torch.nn.functional as F
from torch import Tensor, nn

from .choice import attempt, on_device, runs_on
from .products import Product
from .weights import weights_of

BLOCK_R, BLOCK_C = 8, 256
"""Hidden layers are multiples of 256 wide, so that no thread idles."""


def gated(layer: nn.Module, x: Tensor, product: Product = F.linear) -> Tensor | None:
    """value * GELU(gate) of layer(x) = [value, gate], x [rows, C]; or None. The layer's bias is added on the way.

    Returns [rows, hidden], a view of the product's memory. product: function (x, weight, bias) in place of F.linear.
    """
    affine = weights_of(layer, nn.Linear, x) if runs_on(x) else None
    if affine is None:
        return None
    weight, bias = affine
    whole = product(x, weight, None)  # [..., 2 * hidden]
    with on_device(x):
        out = attempt("GEGLU", lambda: _gate(whole, bias))
    if out is not None:
        return out
    value, gate = (whole if bias is None else whole.add_(bias)).chunk(2, dim=-1)
    return value.mul_(F.gelu(gate))


def _gate(whole: Tensor, bias: Tensor | None) -> Tensor:
    from . import triton_gates as source

    hidden = whole.shape[-1] // 2
    rows = whole.view(-1, 2 * hidden)
    grid = (-(-len(rows) // BLOCK_R), -(-hidden // BLOCK_C))
    source.gate[grid](
        rows, rows if bias is None else bias, rows, len(rows), hidden, 2 * hidden, 2 * hidden,
        BIAS=bias is not None, BLOCK_R=BLOCK_R, BLOCK_C=BLOCK_C,
    )  # fmt: skip
    return whole[..., :hidden]
