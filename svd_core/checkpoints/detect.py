"""Sizes of the networks from the shapes of their tensors (module naming), and the names of models that are not SVD."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..networks.config import CoderConfig, ImageEncoderConfig, UNetConfig
from .names import Shape
from .source import CheckpointError

GROUPS = 32  # of every group norm
LATENT_CHANNELS = 4
# Any of these tells the output channels of a residual block, so that a damaged file is still sized and described.
WIDTH_KEYS = ("0.out_layers.3.bias", "0.in_layers.2.bias", "0.out_layers.3.weight", "0.in_layers.2.weight")
FOREIGN = (
    (r"lora[_.](A|B|up|down)|lora_te", "a LoRA; it is applied to an SVD model, not loaded as one"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"^control_model\.|input_hint_block|controlnet_", "a ControlNet"),
    (r"\.cc_projection\.", "MotionCtrl-SVD, which adds camera layers"),
    (r"qkv_merge|pose_encoder|pose_net", "an SVD model with added pose or camera layers"),
    (r"double_blocks\.|joint_blocks\.|joint_transformer_blocks|patch_embedding\.|adaln_single|transformer_blocks\.\d+\.attn1\.to_q$",
     "a diffusion transformer"),
    (r"^conditioner\.embedders\.1\.model\.|text_model_2|label_emb\.0\.0\.weight$", "an SDXL checkpoint"),
    (r"^cond_stage_model\.", "a Stable Diffusion image checkpoint"),
)  # fmt: skip
REMEDY = "give an SVD file such as svd_xt.safetensors, or a diffusers folder such as stable-video-diffusion-img2vid-xt"


def foreign(keys: Iterable[str]) -> str | None:
    """What kind of model the keys belong to, when it is a known kind that is not SVD."""
    keys = list(keys)
    for pattern, what in FOREIGN:
        if any(re.search(pattern, key) for key in keys):
            return what
    return None


def unet_config(shapes: Mapping[str, Shape], head_channels: int | None) -> UNetConfig:
    """UNet sizes (spec section 4). `head_channels` None = the official 64."""
    first, last = _need(shapes, "UNet", "input_blocks.0.0.weight"), _need(shapes, "UNet", "out.2.weight")
    context = _need(shapes, "UNet", "middle_block.1.transformer_blocks.0.attn2.to_k.weight")
    vector = _need(shapes, "UNet", "label_emb.0.0.weight")
    if len(first) != 4 or len(last) != 4:
        raise CheckpointError(f"the UNet's ends are {list(first)} and {list(last)}, not convolutions; {REMEDY}")
    base, in_channels, out_channels = first[0], first[1], last[0]
    if (in_channels, out_channels) != (2 * LATENT_CHANNELS, LATENT_CHANNELS):
        raise CheckpointError(
            f"the UNet takes {in_channels} channels and gives {out_channels}; SVD takes 8 (4 noised, 4 of the image) "
            f"and gives 4, so this is another or a derived model; {REMEDY}"
        )
    levels, attention = _unet_levels(shapes)
    blocks = _same("UNet", levels)
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
    """Channels of each residual block by level, and the levels that have attention."""
    members: dict[int, set[str]] = {}
    for key in shapes:
        if match := re.match(r"input_blocks\.(\d+)\.(.+)", key):
            members.setdefault(int(match[1]), set()).add(match[2])
    levels: list[list[int]] = [[]]
    attention: set[int] = set()
    for index in range(1, max(members, default=0) + 1):
        names = members.get(index, set())
        if any(name.startswith("0.op.") for name in names):
            levels.append([])
            continue
        width = next((shapes[f"input_blocks.{index}.{name}"][0] for name in WIDTH_KEYS if name in names), None)
        if width is None:
            raise CheckpointError(f"the UNet lacks all of input_blocks.{index}; download the file again")
        levels[-1].append(width)
        if any(name.startswith("1.") for name in names):
            attention.add(len(levels) - 1)
    return levels, attention


def encoder_config(shapes: Mapping[str, Shape]) -> CoderConfig:
    """Sizes of the autoencoder's encoder (keys `encoder.*`, spec section 6.1)."""
    base = _need(shapes, "VAE encoder", "encoder.conv_in.weight")[0]
    moments = _need(shapes, "VAE encoder", "encoder.conv_out.weight")[0]
    levels = _coder_levels(shapes, "encoder.down")
    mult = _multiples("VAE encoder", base, [level[-1] for level in levels])
    return CoderConfig(base, mult, _same("VAE encoder", levels), _latent("VAE encoder", moments // 2))


def decoder_config(shapes: Mapping[str, Shape]) -> CoderConfig:
    """Sizes of the autoencoder's decoder (keys `decoder.*`, spec sections 6.2 and 6.3)."""
    latent = _need(shapes, "VAE decoder", "decoder.conv_in.weight")[1]
    levels = _coder_levels(shapes, "decoder.up")
    widths = [level[-1] for level in levels]
    base = math.gcd(*widths)  # only products of base and multiplier matter here
    mult = _multiples("VAE decoder", base, widths)
    return CoderConfig(base, mult, _same("VAE decoder", levels) - 1, _latent("VAE decoder", latent))


def _latent(part: str, channels: int) -> int:
    if channels != LATENT_CHANNELS:
        raise CheckpointError(f"the {part} has {channels} latent channels; SVD's has {LATENT_CHANNELS}; {REMEDY}")
    return channels


def _coder_levels(shapes: Mapping[str, Shape], start: str) -> list[list[int]]:
    found: dict[int, dict[int, int]] = {}
    pattern = re.compile(re.escape(start) + r"\.(\d+)\.block\.(\d+)\.(conv1|conv2|norm2)\.(weight|bias)")
    for key, shape in shapes.items():
        if match := pattern.fullmatch(key):
            found.setdefault(int(match[1]), {})[int(match[2])] = shape[0]
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(f"the VAE has levels {sorted(found)} under {start}, not all; download the file again")
    return [[found[level][block] for block in sorted(found[level])] for level in sorted(found)]


def image_encoder_config(shapes: Mapping[str, Shape], head_channels: int | None) -> ImageEncoderConfig:
    """Sizes of the image tower (spec section 5). `head_channels` None = the official 80."""
    patch = _need(shapes, "image encoder", "conv1.weight")
    places = _need(shapes, "image encoder", "positional_embedding")
    fc = _need(shapes, "image encoder", "transformer.resblocks.0.mlp.c_fc.weight")
    output = _need(shapes, "image encoder", "proj")
    side = math.isqrt(places[0] - 1)
    if len(patch) != 4 or patch[1] != 3 or side * side != places[0] - 1:
        raise CheckpointError(
            f"the image encoder's patches {list(patch)} and {places[0]} positions make no square picture; {REMEDY}"
        )
    layers = 1 + max(int(match[1]) for key in shapes if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key)))
    heads = head_channels or ImageEncoderConfig.head_channels
    if patch[0] % heads:
        raise CheckpointError(
            f"attention heads of {heads} channels do not divide the image encoder's {patch[0]}; "
            "shapes cannot tell the width of a head, store it in the file's metadata as svd.clip_head_channels"
        )
    return ImageEncoderConfig(side * patch[2], patch[2], patch[0], layers, heads, fc[0], output[1])


def _need(shapes: Mapping[str, Shape], part: str, key: str) -> Shape:
    if key not in shapes:
        raise CheckpointError(f"the {part} lacks '{key}', without which its size is unknown; download the file again")
    return shapes[key]


def _same(part: str, levels: list[list[int]]) -> int:
    counts = sorted({len(level) for level in levels})
    if len(counts) != 1:
        raise CheckpointError(f"the {part}'s levels have {counts} residual blocks; all must have the same number")
    return counts[0]


def _multiples(part: str, base: int, widths: list[int]) -> tuple[int, ...]:
    if base % GROUPS or any(width % base for width in widths):
        raise CheckpointError(
            f"the {part}'s levels are {widths} channels wide on a base of {base}; "
            f"the base must be a multiple of {GROUPS} (group norm), each level a multiple of the base"
        )
    return tuple(width // base for width in widths)


# variant: frames, width, height (spec section 1.2)
NATIVE = {
    "svd": (14, 1024, 576),
    "svd_xt": (25, 1024, 576),
    "svd_xt_1_1": (25, 1024, 576),
    "sv3d_u": (21, 576, 576),
    "sv3d_p": (21, 576, 576),
    "nano": (14, 128, 128),
    "custom": (14, 1024, 576),
    "animatelcm": (25, 1024, 576),
}
BY_VECTOR = {256: "sv3d_u", 1280: "sv3d_p"}
VERSION_1_1 = re.compile(r"(?<!\d)1[-_. ]1(?!\d)")
XT = re.compile(r"(?<![a-z])xt(?![a-z])|svdxt")
ANIMATELCM = re.compile(r"animate[-_ ]?lcm")  # AnimateLCM-SVD-xt, made of either XT (spec section 11.2)
SVD = re.compile(r"svd|stable[-_ ]?video[-_ ]?diffusion|img2vid")


@dataclass(frozen=True)
class Hints:
    """Metadata `svd.*` of a file, None where it is silent."""

    head_channels: int | None = None
    clip_head_channels: int | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    variant: str | None = None


def read_hints(metadata: Mapping[str, str]) -> Hints:
    """The `svd.*` keys of a safetensors file's metadata; raises CheckpointError for values that make no sense."""
    numbers: dict[str, int] = {}
    for name in ("head_channels", "clip_head_channels", "frames", "width", "height"):
        text = metadata.get(f"svd.{name}")
        if text is None:
            continue
        if not re.fullmatch(r"[1-9]\d{0,5}", str(text).strip()):
            raise CheckpointError(f"metadata key svd.{name} is '{text}'; it must be a whole number of at least 1")
        numbers[name] = int(text)
    for side in ("width", "height"):
        if numbers.get(side, 8) % 8:
            raise CheckpointError(f"metadata key svd.{side} is {numbers[side]}; pixel sizes are multiples of 8")
    variant = metadata.get("svd.variant")
    if variant is not None and variant not in NATIVE:
        raise CheckpointError(f"metadata key svd.variant is '{variant}'; it must be one of {', '.join(NATIVE)}")
    return Hints(variant=variant, **numbers)


def guess_variant(name: str, vector_channels: int, frames: int | None, official_size: bool) -> str:
    """Variant by vector width, else by file or folder name, else (official UNet size) by a folder's frame count."""
    if vector_channels in BY_VECTOR:
        return BY_VECTOR[vector_channels]
    name = name.lower()
    if ANIMATELCM.search(name):
        return "animatelcm"
    extended, known = bool(XT.search(name)), bool(SVD.search(name))
    if (extended or known) and VERSION_1_1.search(name):
        return "svd_xt_1_1"  # 1.1 exists as XT only
    if extended:
        return "svd_xt"
    if known:
        return "svd"
    return {14: "svd", 25: "svd_xt"}.get(frames or 0, "custom") if official_size else "custom"
