"""Names: module naming to folder layout, the way back of `keys`. Knows no files, no values but whole-tensor forms."""

import re
from dataclasses import dataclass

from ..networks.config import SVDConfig, UNetConfig
from .names import RESIDUAL, TOWER, TOWER_LAYER, UNET_TOP, VAE_ATTENTION
from .parts import Shape

RESIDUAL_BACK = {name: layer for layer, name in RESIDUAL.items()}
UNET_TOP_BACK = {name: start for start, name in UNET_TOP.items()}
VAE_ATTENTION_BACK = {name: layer for layer, name in VAE_ATTENTION.items()}
TOWER_BACK = {name: key for key, name in TOWER.items()}
TOWER_LAYER_BACK = {name: layer for layer, name in TOWER_LAYER.items()}
UNET_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
VAE_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(block\.(\d+)|downsample|upsample)\.(.+)")
FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
TOWER_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Piece:
    """One tensor of the folder layout: the module tensor it is made of, its shape, its third of the rows (None: all),
    and whether it is transposed.
    """

    key: str
    shape: Shape
    third: int | None = None
    transpose: bool = False


def folder_pieces(part: str, shapes: dict[str, Shape], config: SVDConfig) -> dict[str, Piece]:
    """Folder-layout name -> Piece for the tensors of one network ("unet", "vae", "image_encoder") in module naming."""
    if part == "unet":
        return {unet_to_folder(key, config.unet): Piece(key, shape) for key, shape in shapes.items()}
    if part == "vae":
        return {vae_to_folder(key, config): Piece(key, _squeezed(key, shape)) for key, shape in shapes.items()}
    found: dict[str, Piece] = {}
    for key, shape in shapes.items():
        found |= _tower_pieces(key, shape)
    return found


def unet_to_folder(key: str, config: UNetConfig) -> str:
    """Folder-layout name of a UNet tensor."""
    for start, name in UNET_TOP_BACK.items():
        if key.startswith(start):
            return name + key[len(start) :]
    if key.startswith("middle_block."):
        _, index, tail = key.split(".", 2)
        if index == "1":
            return f"mid_block.attentions.0.{_attention_tail(tail)}"
        return f"mid_block.resnets.{int(index) // 2}.{_residual_tail(tail)}"
    match = UNET_BLOCK.fullmatch(key)
    if match is None:
        raise KeyError(key)
    down, index, place, tail = match[1] == "input", int(match[2]), match[3], match[4]
    block, layer = divmod(index - down, config.num_res_blocks + 1)
    start = f"{'down' if down else 'up'}_blocks.{block}"
    if tail.startswith("op."):
        return f"{start}.downsamplers.0.conv.{tail[len('op.') :]}"
    if tail.startswith("conv."):
        return f"{start}.upsamplers.0.{tail}"
    if place == "0":
        return f"{start}.resnets.{layer}.{_residual_tail(tail)}"
    return f"{start}.attentions.{layer}.{_attention_tail(tail)}"


def _residual_tail(tail: str) -> str:
    if tail == "time_mixer.mix_factor":
        return tail
    stack = tail.startswith("time_stack.")
    layer, _, last = tail.removeprefix("time_stack.").rpartition(".")
    return f"{'temporal' if stack else 'spatial'}_res_block.{RESIDUAL_BACK[layer]}.{last}"


def _attention_tail(tail: str) -> str:
    tail = tail.replace("time_stack.", "temporal_transformer_blocks.", 1)
    return re.sub(r"^time_pos_embed\.([02])\.", lambda match: f"time_pos_embed.linear_{int(match[1]) // 2 + 1}.", tail)


def vae_to_folder(key: str, config: SVDConfig) -> str:
    """Folder-layout name of an autoencoder tensor."""
    half, _, tail = key.partition(".")
    if half in ("quant_conv", "post_quant_conv"):
        return key
    if tail.startswith("conv_out.time_mix_conv."):
        return f"{half}.time_conv_out.{tail[len('conv_out.time_mix_conv.') :]}"
    if tail.startswith("norm_out."):
        return f"{half}.conv_norm_out.{tail[len('norm_out.') :]}"
    if tail.startswith("mid.attn_1."):
        layer, last = tail[len("mid.attn_1.") :].split(".")
        return f"{half}.mid_block.attentions.0.{VAE_ATTENTION_BACK[layer]}.{last}"
    temporal = half == "decoder" and config.vae.temporal
    if tail.startswith("mid.block_"):
        _, block, rest = tail.split(".", 2)
        return f"{half}.mid_block.resnets.{int(block[len('block_') :]) - 1}.{_vae_residual(rest, temporal)}"
    match = VAE_BLOCK.fullmatch(key)
    if match is None:
        return key  # conv_in, conv_out
    _, way, level, layer, block, rest = match.groups()
    levels = len(config.vae.decoder.channel_mult) if way == "up" else 0
    start = f"{half}.{way}_blocks.{int(level) if way == 'down' else levels - 1 - int(level)}"
    if block is None:
        return f"{start}.{layer}rs.0.{rest}"
    return f"{start}.resnets.{block}.{_vae_residual(rest, temporal)}"


def _vae_residual(tail: str, temporal: bool) -> str:
    if tail == "mix_factor":
        return "time_mixer.mix_factor"
    if tail.startswith("time_stack."):
        layer, _, last = tail[len("time_stack.") :].rpartition(".")
        return f"temporal_res_block.{RESIDUAL_BACK[layer]}.{last}"
    layer, _, last = tail.rpartition(".")
    name = "conv_shortcut" if layer == "nin_shortcut" else layer
    return f"{'spatial_res_block.' if temporal else ''}{name}.{last}"


def _squeezed(key: str, shape: Shape) -> Shape:
    """The attention's 1x1 convolutions are linear layers in the folder layout."""
    return shape[:2] if ".mid.attn_1." in key and len(shape) == 4 else shape


def _tower_pieces(key: str, shape: Shape) -> dict[str, Piece]:
    if match := FUSED.fullmatch(key):
        start, rows = f"vision_model.encoder.layers.{match[1]}.self_attn.", (shape[0] // 3, *shape[1:])
        return {f"{start}{name}_proj.{match[2]}": Piece(key, rows, third) for third, name in enumerate("qkv")}
    if key == "proj":
        return {TOWER_BACK[key]: Piece(key, shape[::-1], transpose=True)}
    if match := TOWER_BLOCK.fullmatch(key):
        layer = TOWER_LAYER_BACK[match[2]]
        return {f"vision_model.encoder.layers.{match[1]}.{layer}.{match[3]}": Piece(key, shape)}
    return {TOWER_BACK[key]: Piece(key, shape)}
