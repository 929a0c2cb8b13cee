"""Triton source of the gate. Imported only where it can run: importing it imports Triton."""

import triton
import triton.language as tl


@triton.jit
def gate(
    x, bias, y, rows, hidden, x_row, y_row, BIAS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """y = (x1 + b1) * GELU(x2 + b2) of rows [x1, x2]. y may be x1: each program reads what it writes, and nobody else.

    The exact GELU: quick or tanh forms degrade the result (spec trap 21).
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    known = column < hidden
    inside = (row < rows)[:, None] & known[None, :]
    source = x + row[:, None] * x_row + column[None, :]
    value = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    steep = tl.load(source + hidden, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        value += tl.load(bias + column, mask=known, other=0.0).to(tl.float32)[None, :]
        steep += tl.load(bias + hidden + column, mask=known, other=0.0).to(tl.float32)[None, :]
    result = value * (0.5 * steep * (1.0 + tl.erf(steep * 0.7071067811865476)))
    tl.store(y + row[:, None] * y_row + column[None, :], result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def quantise(x, y, scales, channels, x_row, y_row, BLOCK: tl.constexpr):
    """One row of x in 8 bits, scaled so that its largest number is 448, and the scale that undoes it."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    largest = tl.zeros([BLOCK], dtype=tl.float32)
    for first in range(0, channels, BLOCK):
        column = first + lane
        values = tl.load(x + row * x_row + column, mask=column < channels, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(values))
    scale = tl.maximum(tl.max(largest, 0), 1e-30) / 448.0
    tl.store(scales + row, scale)
    for first in range(0, channels, BLOCK):
        column = first + lane
        values = tl.load(x + row * x_row + column, mask=column < channels, other=0.0).to(tl.float32)
        tl.store(y + row * y_row + column, (values / scale).to(y.dtype.element_ty), mask=column < channels)
