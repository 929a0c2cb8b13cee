"""What feature reuse across steps (`sampling.reuse`) saves in operations and costs in memory."""

from dataclasses import replace

from ..networks.config import SVDConfig, UNetConfig
from ..networks.parameter_counts import unet_blocks
from .costs import Stage, block_flops, level_pixels, unet_flops


def shallow_flops(config: UNetConfig, depth: int, frames: int, height: int, width: int) -> float:
    """Return the operations of a pass that reuses inner features and runs only the `depth` outer block pairs."""
    base, mults, repeats = config.model_channels, config.channel_mult, config.num_res_blocks
    pixels = level_pixels(height, width, len(mults))
    down, up = _down_and_up(config)
    total = 18.0 * frames * pixels[0] * base * config.out_channels
    for index in range(depth):
        level, place = divmod(index - 1, repeats + 1)
        if index == 0:
            total += 18.0 * frames * pixels[0] * base * config.in_channels
        elif place < repeats:
            total += block_flops(down[level * repeats + place], pixels, frames)
        else:
            total += 18.0 * frames * pixels[level + 1] * (mults[level] * base) ** 2
    for index in range(len(up) - depth, len(up)):
        level, _, channels, _ = up[index]
        total += block_flops(up[index], pixels, frames)
        if level > 0 and index % (repeats + 1) == repeats:
            total += 18.0 * frames * pixels[level - 1] * channels**2
    return total


def mean_flops(config: UNetConfig, interval: int, depth: int, frames: int, height: int, width: int) -> float:
    """Return the average operations of a pass if one of `interval` passes runs all blocks."""
    full = unet_flops(config, frames, height, width)
    if interval <= 1:
        return full
    return (full + (interval - 1) * shallow_flops(config, depth, frames, height, width)) / interval


def feature_cache_bytes(config: UNetConfig, depth: int, frames: int, height: int, width: int, itemsize: int = 2) -> int:
    """Return the bytes that cached features add to the peak of a pass; 0 for a depth of 0.

    With CFG, the features of one pass are resident while the other pass reaches its peak. The other pass fills its own
    cache only after that peak, so the features of one pass count.
    """
    if depth < 1:
        return 0
    _, up = _down_and_up(config)
    before, after = up[len(up) - depth - 1], up[len(up) - depth]
    area = level_pixels(height, width, len(config.channel_mult))[after[0]]
    return frames * area * before[2] * itemsize


def _down_and_up(config: UNetConfig) -> tuple[list[tuple], list[tuple]]:
    """Return the residual blocks of the input side and of the output side."""
    blocks, levels = list(unet_blocks(config)), len(config.channel_mult)
    return blocks[: levels * config.num_res_blocks], blocks[-levels * (config.num_res_blocks + 1) :]


def with_reuse(
    stage: Stage, config: SVDConfig, frames: int, width: int, height: int, itemsize: int, reuse: tuple[int, int]
) -> Stage:
    """Return `stage` of a clip of width x height pixels with the costs of feature reuse at (interval, depth)."""
    if stage.network != "unet":
        return stage
    size = (frames, height // 8, width // 8)
    cached = feature_cache_bytes(config.unet, reuse[1], *size, itemsize)
    flops = stage.passes * mean_flops(config.unet, *reuse, *size)
    return replace(stage, flops=flops, activations=stage.activations + cached)
