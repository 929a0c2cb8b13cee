"""Sizes of the networks, from the shapes of their tensors in module naming (spec sections 4 to 6).

A hostile file can hold any shape, so every size is checked before a network is made of it.
"""

import math
import re
from collections.abc import Mapping

from ..networks.config import CoderConfig, ImageEncoderConfig, UNetConfig
from .detect import REMEDY
from .names import Shape
from .source import CheckpointError

GROUPS = 32  # of every group norm
LATENT_CHANNELS = 4
MOST_CHANNELS = 2**16
# Any of these has the output channels of a residual block, so that a damaged file can still be described.
WIDTH_KEYS = ("0.out_layers.3.bias", "0.in_layers.2.bias", "0.out_layers.3.weight", "0.in_layers.2.weight")


def unet_config(shapes: Mapping[str, Shape], head_channels: int | None) -> UNetConfig:
    """Return the sizes of the UNet (spec section 4). head_channels: None = the official 64."""
    if not any(key.startswith(("output_blocks.", "out.")) for key in shapes):
        raise CheckpointError(f"the UNet has no output blocks: it is a part of one, such as a ControlNet; {REMEDY}")
    first, last = _need(shapes, "UNet", "input_blocks.0.0.weight"), _need(shapes, "UNet", "out.2.weight")
    context = _need(shapes, "UNet", "middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2)
    vector = _need(shapes, "UNet", "label_emb.0.0.weight", 2)
    if len(first) != 4 or len(last) != 4:
        raise CheckpointError(f"the UNet's ends are {list(first)} and {list(last)}, not convolutions; {REMEDY}")
    base, in_channels, out_channels = first[0], first[1], last[0]
    if (in_channels, out_channels) != (2 * LATENT_CHANNELS, LATENT_CHANNELS):
        raise CheckpointError(
            f"the UNet takes {in_channels} channels and gives {out_channels}; SVD takes 8 (4 noised, 4 of the image) "
            f"and gives 4, so this is another or a derived model; {REMEDY}"
        )
    levels, attention = _unet_levels(shapes)
    blocks = _blocks("UNet", levels)
    widths = [level[-1] for level in levels]
    mult = _multiples("UNet", base, widths)
    heads = head_channels or UNetConfig.head_channels
    for level in sorted(attention | {len(levels) - 1}):  # the middle block attends at the last level's width
        if widths[level] % heads:
            raise CheckpointError(
                f"attention heads of {heads} channels do not divide UNet level {level}'s {widths[level]} channels; "
                "shapes cannot tell the width of a head, store it in the file's metadata as svd.head_channels"
            )
    levels_with = tuple(sorted(attention))
    return UNetConfig(in_channels, out_channels, base, mult, blocks, levels_with, heads, context[1], vector[1])


def _unet_levels(shapes: Mapping[str, Shape]) -> tuple[list[list[int]], set[int]]:
    """Return the channels of each residual block by level, and the levels that have attention."""
    members: dict[int, set[str]] = {}
    for key in shapes:
        if match := re.match(r"input_blocks\.(\d{1,4})\.(.+)", key):
            members.setdefault(int(match[1]), set()).add(match[2])
    levels: list[list[int]] = [[]]
    attention: set[int] = set()
    for index in range(1, max(members, default=0) + 1):
        names = members.get(index, set())
        if any(name.startswith("0.op.") for name in names):
            levels.append([])
            continue
        name = next((name for name in WIDTH_KEYS if name in names), None)
        if name is None:
            raise CheckpointError(f"the UNet lacks all of input_blocks.{index}; download the file again")
        levels[-1].append(_need(shapes, "UNet", f"input_blocks.{index}.{name}")[0])
        if any(name.startswith("1.") for name in names):
            attention.add(len(levels) - 1)
    return levels, attention


def encoder_config(shapes: Mapping[str, Shape]) -> CoderConfig:
    """Return the sizes of the VAE's encoder (keys `encoder.*`, spec section 6.1)."""
    base = _need(shapes, "VAE encoder", "encoder.conv_in.weight")[0]
    moments = _need(shapes, "VAE encoder", "encoder.conv_out.weight")[0]
    levels = _coder_levels(shapes, "encoder.down")
    mult = _multiples("VAE encoder", base, [level[-1] for level in levels])
    return CoderConfig(base, mult, _blocks("VAE encoder", levels), _latent("VAE encoder", moments // 2))


def decoder_config(shapes: Mapping[str, Shape]) -> CoderConfig:
    """Return the sizes of the VAE's decoder (keys `decoder.*`, spec sections 6.2 and 6.3)."""
    latent = _need(shapes, "VAE decoder", "decoder.conv_in.weight", 2)[1]
    levels = _coder_levels(shapes, "decoder.up")
    widths = [level[-1] for level in levels]
    base = math.gcd(*widths)  # only products of base and multiplier matter here
    mult = _multiples("VAE decoder", base, widths)
    return CoderConfig(base, mult, _blocks("VAE decoder", levels) - 1, _latent("VAE decoder", latent))


def _latent(part: str, channels: int) -> int:
    if channels != LATENT_CHANNELS:
        raise CheckpointError(f"the {part} has {channels} latent channels; SVD's has {LATENT_CHANNELS}; {REMEDY}")
    return channels


def _coder_levels(shapes: Mapping[str, Shape], start: str) -> list[list[int]]:
    found: dict[int, dict[int, int]] = {}
    pattern = re.compile(re.escape(start) + r"\.(\d{1,4})\.block\.(\d{1,4})\.(conv1|conv2|norm2)\.(weight|bias)")
    for key in shapes:
        if match := pattern.fullmatch(key):
            found.setdefault(int(match[1]), {})[int(match[2])] = _need(shapes, "VAE", key)[0]
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(f"the VAE has levels {sorted(found)} under {start}, not all; download the file again")
    return [[found[level][block] for block in sorted(found[level])] for level in sorted(found)]


def image_encoder_config(shapes: Mapping[str, Shape], head_channels: int | None) -> ImageEncoderConfig:
    """Return the sizes of the image encoder (spec section 5). head_channels: None = the official 80."""
    patch = _need(shapes, "image encoder", "conv1.weight")
    places = _need(shapes, "image encoder", "positional_embedding")
    fc = _need(shapes, "image encoder", "transformer.resblocks.0.mlp.c_fc.weight")
    output = _need(shapes, "image encoder", "proj", 2)
    side = math.isqrt(places[0] - 1)
    if len(patch) != 4 or patch[1] != 3 or side * side != places[0] - 1:
        raise CheckpointError(
            f"the image encoder's patches {list(patch)} and {places[0]} positions make no square picture; {REMEDY}"
        )
    layer = re.compile(r"transformer\.resblocks\.(\d{1,4})\.")
    found = sorted({int(match[1]) for key in shapes if (match := layer.match(key))})
    if found != list(range(len(found))):
        raise CheckpointError(
            f"the image encoder has layers up to {found[-1]}, but {len(found)} in all; download the file again"
        )
    heads = head_channels or ImageEncoderConfig.head_channels
    if patch[0] % heads:
        raise CheckpointError(
            f"attention heads of {heads} channels do not divide the image encoder's {patch[0]}; "
            "shapes cannot tell the width of a head, store it in the file's metadata as svd.clip_head_channels"
        )
    return ImageEncoderConfig(side * patch[2], patch[2], patch[0], len(found), heads, fc[0], output[1])


def _need(shapes: Mapping[str, Shape], part: str, key: str, axes: int = 1) -> Shape:
    """Return the shape of a tensor that sizes depend on; CheckpointError where it is absent or has no such size."""
    if key not in shapes:
        raise CheckpointError(f"the {part} lacks '{key}', without which its size is unknown; download the file again")
    shape = shapes[key]
    if len(shape) < axes or not all(0 < size <= MOST_CHANNELS for size in shape):
        raise CheckpointError(f"'{key}' of the {part} has the shape {list(shape)}; download the file again")
    return shape


def _blocks(part: str, levels: list[list[int]]) -> int:
    counts = sorted({len(level) for level in levels})
    if len(counts) != 1 or counts == [0]:
        raise CheckpointError(f"the {part}'s levels have {counts} residual blocks; all must have the same number")
    return counts[0]


def _multiples(part: str, base: int, widths: list[int]) -> tuple[int, ...]:
    if base % GROUPS or any(width % base for width in widths):
        raise CheckpointError(
            f"the {part}'s levels are {widths} channels wide on a base of {base}; "
            f"the base must be a multiple of {GROUPS} (group norm), each level a multiple of the base"
        )
    return tuple(width // base for width in widths)
