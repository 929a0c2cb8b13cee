"""What reuse of features across steps saves and keeps (`sampling.reuse`), from the sizes of the UNet."""

from dataclasses import replace

from ..networks.config import SVDConfig, UNetConfig
from .costs import Stage, block_flops, sides, unet_blocks, unet_flops


def shallow_flops(config: UNetConfig, depth: int, frames: int, height: int, width: int) -> float:
    """Operations of a pass that takes up inner features and runs the `depth` outermost pairs of blocks alone."""
    base, mults, repeats = config.model_channels, config.channel_mult, config.num_res_blocks
    areas = sides(height, width, len(mults))
    down, up = _halves(config)
    total = 18.0 * frames * areas[0] * base * config.out_channels
    for index in range(depth):
        level, place = divmod(index - 1, repeats + 1)
        if index == 0:
            total += 18.0 * frames * areas[0] * base * config.in_channels
        elif place < repeats:
            total += block_flops(down[level * repeats + place], areas, frames)
        else:
            total += 18.0 * frames * areas[level + 1] * (mults[level] * base) ** 2
    for index in range(len(up) - depth, len(up)):
        level, _, channels, _ = up[index]
        total += block_flops(up[index], areas, frames)
        if level > 0 and index % (repeats + 1) == repeats:
            total += 18.0 * frames * areas[level - 1] * channels**2
    return total


def mean_flops(config: UNetConfig, interval: int, depth: int, frames: int, height: int, width: int) -> float:
    """Operations of a pass on average, one of `interval` being whole."""
    whole = unet_flops(config, frames, height, width)
    if interval <= 1:
        return whole
    return (whole + (interval - 1) * shallow_flops(config, depth, frames, height, width)) / interval


def kept_bytes(
    config: UNetConfig, depth: int, frames: int, height: int, width: int, itemsize: int = 2, *, branches: int = 1
) -> int:
    """Bytes of the features that stay on the device between steps; a depth of 0 keeps none.

    Those of one branch of guidance lie there while the pass of the other reaches its peak; its own come into being
    where the network is past that, so that one branch is what a plan adds.
    """
    if depth < 1:
        return 0
    _, up = _halves(config)
    before, after = up[len(up) - depth - 1], up[len(up) - depth]
    area = sides(height, width, len(config.channel_mult))[after[0]]
    return branches * frames * area * before[2] * itemsize


def _halves(config: UNetConfig) -> tuple[list[tuple], list[tuple]]:
    """The residual blocks on the way down and on the way up."""
    blocks, levels = list(unet_blocks(config)), len(config.channel_mult)
    return blocks[: levels * config.num_res_blocks], blocks[-levels * (config.num_res_blocks + 1) :]


def with_reuse(
    stage: Stage, config: SVDConfig, frames: int, width: int, height: int, itemsize: int, reuse: tuple[int, int]
) -> Stage:
    """`stage` of a clip of width x height pixels with what reuse of (interval, depth) saves and keeps."""
    if stage.network != "unet":
        return stage
    size = (frames, height // 8, width // 8)
    kept = kept_bytes(config.unet, reuse[1], *size, itemsize)
    flops = stage.passes * mean_flops(config.unet, *reuse, *size)
    return replace(stage, flops=flops, activations=stage.activations + kept)
