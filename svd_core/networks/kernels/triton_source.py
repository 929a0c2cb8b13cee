"""Triton source of the fused kernels. Importing this module imports Triton, so only the launchers do.

In this order: GroupNorm (moments, combine, apply), add with LayerNorm, GEGLU, rounding to fp8. Sizes and strides are
arbitrary. Offsets are 64 bits wide, because a clip of large frames has more than 2^31 elements.
"""

import triton
import triton.language as tl


@triton.jit
def moments(
    x, means, squares, groups, group_channels, pixels, split_pixels, splits,
    frame_stride, channel_stride, pixel_stride,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Compute mean and sum of squared deviations of one channel group in one range of pixels of one frame.

    The sums are over distances from the mean of the range's first tile, so a large mean causes no cancellation.
    """
    unit = tl.program_id(0)
    split = tl.program_id(1)
    frame = unit // groups
    group = unit % groups
    source = x + frame.to(tl.int64) * frame_stride + (group * group_channels).to(tl.int64) * channel_stride
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    lane_c = tl.arange(0, BLOCK_C)
    lane_p = tl.arange(0, BLOCK_P)

    inside = (lane_c < group_channels)[:, None] & (begin + lane_p < end)[None, :]
    offset = lane_c.to(tl.int64)[:, None] * channel_stride + (begin + lane_p).to(tl.int64)[None, :] * pixel_stride
    tile = tl.load(source + offset, mask=inside, other=0.0).to(tl.float32)
    shift = tl.sum(tl.sum(tile, 1), 0) / tl.sum(tl.sum(inside.to(tl.float32), 1), 0)

    sums = tl.zeros([BLOCK_C, BLOCK_P], dtype=tl.float32)
    sums_of_squares = tl.zeros([BLOCK_C, BLOCK_P], dtype=tl.float32)
    for start in range(begin, end, BLOCK_P):
        pixel = start + lane_p
        for first in range(0, group_channels, BLOCK_C):
            channel = first + lane_c
            inside = (channel < group_channels)[:, None] & (pixel < end)[None, :]
            offset = channel.to(tl.int64)[:, None] * channel_stride + pixel.to(tl.int64)[None, :] * pixel_stride
            tile = tl.load(source + offset, mask=inside, other=0.0).to(tl.float32)
            distance = tl.where(inside, tile - shift, 0.0)
            sums += distance
            sums_of_squares += distance * distance
    count = ((end - begin) * group_channels).to(tl.float32)
    total = tl.sum(tl.sum(sums, 1), 0)
    total_of_squares = tl.sum(tl.sum(sums_of_squares, 1), 0)
    place = unit.to(tl.int64) * splits + split
    tl.store(means + place, shift + total / count)
    tl.store(squares + place, tl.maximum(total_of_squares - total * (total / count), 0.0))


@triton.jit
def combine(
    means, squares, out_means, out_variances, groups, group_channels, pixels, split_pixels, splits, parts,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Combine `parts` ranges of pixels, from all frames that are pooled, to mean and variance of one group."""
    unit = tl.program_id(0)
    clip = unit // groups
    group = unit % groups
    part = tl.arange(0, BLOCK)
    inside = part < parts
    frame = clip * (parts // splits) + part // splits
    split = part % splits
    place = (frame.to(tl.int64) * groups + group) * splits + split
    mean = tl.load(means + place, mask=inside, other=0.0)
    square = tl.load(squares + place, mask=inside, other=0.0)
    length = tl.minimum(pixels - split * split_pixels, split_pixels)
    count = tl.where(inside, (length * group_channels).to(tl.float32), 0.0)
    total = tl.sum(count, 0)
    middle = tl.sum(mean * count, 0) / total
    distance = tl.where(inside, mean - middle, 0.0)
    variance = tl.sum(square + count * distance * distance, 0) / total
    tl.store(out_means + unit, middle)
    tl.store(out_variances + unit, variance)


@triton.jit
def apply(
    x, y, means, variances, weight, bias, eps, channels, groups, group_channels, pixels, clip_frames,
    x_frame, x_channel, x_pixel, y_frame, y_channel, y_pixel,
    AFFINE: tl.constexpr, SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Normalise one tile by its groups' statistics, apply scale, shift and SiLU, and write it in y's layout."""
    frame = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    valid = channel < channels
    inside = valid[:, None] & (pixel < pixels)[None, :]
    unit = (frame // clip_frames) * groups + channel // group_channels
    mean = tl.load(means + unit, mask=valid, other=0.0)
    variance = tl.load(variances + unit, mask=valid, other=1.0)
    scale = 1.0 / tl.sqrt(variance + eps)
    shift = tl.zeros([BLOCK_C], dtype=tl.float32)
    if AFFINE:
        scale *= tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
        shift += tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32)
    far_c = channel.to(tl.int64)[:, None]
    far_p = pixel.to(tl.int64)[None, :]
    source = x + frame.to(tl.int64) * x_frame + far_c * x_channel + far_p * x_pixel
    tile = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    tile = (tile - mean[:, None]) * scale[:, None] + shift[:, None]
    if SILU:
        tile = tile / (1.0 + tl.exp(-tile))
    target = y + frame.to(tl.int64) * y_frame + far_c * y_channel + far_p * y_pixel
    tl.store(target, tile.to(y.dtype.element_ty), mask=inside)


@triton.jit
def add_layer_norm(
    x, update, total, y, weight, bias, eps, rows, channels, every, period, x_row, update_row, total_row, y_row,
    UPDATE: tl.constexpr, AFFINE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute total = x + update and y = LayerNorm(total) for a few rows.

    Row r uses row (r // every) % period of update.
    """
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    channel = tl.arange(0, BLOCK_C)
    valid = channel < channels
    inside = (row < rows)[:, None] & valid[None, :]
    far = row.to(tl.int64)[:, None]
    values = tl.load(x + far * x_row + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    if UPDATE:
        source = (row // every) % period
        place = update + source.to(tl.int64)[:, None] * update_row + channel[None, :]
        values += tl.load(place, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + far * total_row + channel[None, :], values.to(total.dtype.element_ty), mask=inside)
    mean = tl.sum(values, 1) / channels
    distance = tl.where(inside, values - mean[:, None], 0.0)
    variance = tl.sum(distance * distance, 1) / channels
    result = distance * (1.0 / tl.sqrt(variance + eps))[:, None]
    if AFFINE:
        result *= tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)[None, :]
        result += tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32)[None, :]
    tl.store(y + far * y_row + channel[None, :], result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gate(
    x, bias, y, rows, hidden, x_row, y_row, BIAS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Compute y = (x1 + b1) * GELU(x2 + b2) for rows [x1, x2].

    y may be x1, because each program writes only what it alone reads. The GELU is exact: the quick and tanh forms
    degrade the result (spec trap 21).
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    valid = column < hidden
    inside = (row < rows)[:, None] & valid[None, :]
    source = x + row[:, None] * x_row + column[None, :]
    value = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    gate_value = tl.load(source + hidden, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        value += tl.load(bias + column, mask=valid, other=0.0).to(tl.float32)[None, :]
        gate_value += tl.load(bias + hidden + column, mask=valid, other=0.0).to(tl.float32)[None, :]
    result = value * (0.5 * gate_value * (1.0 + tl.erf(gate_value * 0.7071067811865476)))
    tl.store(y + row[:, None] * y_row + column[None, :], result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def quantise(x, y, scales, channels, x_row, y_row, BLOCK: tl.constexpr):
    """Round one row of x to fp8, scaled so that its largest element is 448, and store the scale that undoes it."""
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
