"""Tensor names of the diffusers folder layout and of the single-file layout, mapped both ways (spec section 1.4).

The single-file names are those of our modules. Everything here works on names and shapes; no file is opened and no
value is read.
"""

import re
from dataclasses import dataclass

from ..networks.config import SVDConfig

Shape = tuple[int, ...]

# The folder's name -> the single file's name.
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# Older diffusers wrote these into the autoencoder of Stable Diffusion 1.5, which folders of SV3D_p carry.
OLD_VAE_ATTENTION = {"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}
ENCODER = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
    "visual_projection.weight": "proj",
}
ENCODER_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}

# The single file's name -> the folder's name.
RESIDUAL_BACK = {name: layer for layer, name in RESIDUAL.items()}
UNET_TOP_BACK = {name: start for start, name in UNET_TOP.items()}
VAE_ATTENTION_BACK = {name: layer for layer, name in VAE_ATTENTION.items()}
ENCODER_BACK = {name: key for key, name in ENCODER.items()}
ENCODER_LAYER_BACK = {name: layer for layer, name in ENCODER_LAYER.items()}

FOLDER_UNET = re.compile(r"(down|up)_blocks\.(\d{1,4})\.(resnets|attentions|downsamplers|upsamplers)\.(\d{1,4})\.(.+)")
FOLDER_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d{1,4})\.(.+)")  # of UNet and VAE
FOLDER_VAE = re.compile(r"(down|up)_blocks\.(\d{1,4})\.(resnets|downsamplers|upsamplers)\.(\d{1,4})\.(.+)")
FOLDER_ENCODER = re.compile(r"vision_model\.encoder\.layers\.(\d{1,4})\.(.+)\.(weight|bias)")
FOLDER_QKV = re.compile(r"self_attn\.([qkv])_proj")
SINGLE_UNET = re.compile(r"(input|output)_blocks\.(\d{1,4})\.(\d{1,4})\.(.+)")
SINGLE_VAE = re.compile(r"(encoder|decoder)\.(down|up)\.(\d{1,4})\.(block\.(\d{1,4})|downsample|upsample)\.(.+)")
SINGLE_QKV = re.compile(r"transformer\.resblocks\.(\d{1,4})\.attn\.in_proj_(weight|bias)")
SINGLE_ENCODER = re.compile(r"transformer\.resblocks\.(\d{1,4})\.(.+)\.(weight|bias)")


def unet_from_folder(key: str, blocks: int, attention_up: frozenset[int]) -> str | None:
    """Return the single-file name of a UNet tensor in the folder layout, or None if it is not one.

    blocks: residual blocks per level. attention_up: indices of the up blocks that have attention; there the upsampler
    is the third module of its block, not the second.
    """
    for start, name in UNET_TOP.items():
        if key.startswith(start):
            return name + key[len(start) :]
    if match := FOLDER_MIDDLE.fullmatch(key):
        kind, index, tail = match.groups()
        position = 1 if kind == "attentions" else 2 * int(index)
        return _unet_tail_from_folder(f"middle_block.{position}.", kind, tail)
    if not (match := FOLDER_UNET.fullmatch(key)):
        return None
    side, block, kind, layer, tail = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (blocks + 1)}.0.op.{tail.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (blocks + 1) + blocks}.{1 + (block in attention_up)}.{tail}"
    index = block * (blocks + 1) + layer
    start = f"input_blocks.{index + 1}." if side == "down" else f"output_blocks.{index}."
    return _unet_tail_from_folder(start + ("1." if kind == "attentions" else "0."), kind, tail)


def _unet_tail_from_folder(start: str, kind: str, tail: str) -> str | None:
    if kind == "attentions":
        tail = tail.replace("temporal_transformer_blocks.", "time_stack.", 1)
        tail = re.sub(r"^time_pos_embed\.linear_([12])\.", lambda m: f"time_pos_embed.{2 * int(m[1]) - 2}.", tail)
        return start + tail
    if tail == "time_mixer.mix_factor":
        return start + tail
    for block, name in (("spatial_res_block.", ""), ("temporal_res_block.", "time_stack.")):
        if tail.startswith(block):
            layer, _, rest = tail[len(block) :].partition(".")
            return f"{start}{name}{RESIDUAL[layer]}.{rest}" if layer in RESIDUAL else None
    return None


def unet_to_folder(key: str, blocks: int) -> str:
    """Return the folder-layout name of a UNet tensor; KeyError for other names. blocks: residual blocks per level."""
    for start, name in UNET_TOP_BACK.items():
        if key.startswith(start):
            return name + key[len(start) :]
    if key.startswith("middle_block."):
        _, index, tail = key.split(".", 2)
        if index == "1":
            return f"mid_block.attentions.0.{_attention_tail_to_folder(tail)}"
        return f"mid_block.resnets.{int(index) // 2}.{_residual_tail_to_folder(tail)}"
    match = SINGLE_UNET.fullmatch(key)
    if match is None:
        raise KeyError(key)
    down, index, place, tail = match[1] == "input", int(match[2]), match[3], match[4]
    block, layer = divmod(index - down, blocks + 1)
    start = f"{'down' if down else 'up'}_blocks.{block}"
    if tail.startswith("op."):
        return f"{start}.downsamplers.0.conv.{tail[len('op.') :]}"
    if tail.startswith("conv."):
        return f"{start}.upsamplers.0.{tail}"
    if place == "0":
        return f"{start}.resnets.{layer}.{_residual_tail_to_folder(tail)}"
    return f"{start}.attentions.{layer}.{_attention_tail_to_folder(tail)}"


def _residual_tail_to_folder(tail: str) -> str:
    if tail == "time_mixer.mix_factor":
        return tail
    stack = tail.startswith("time_stack.")
    layer, _, last = tail.removeprefix("time_stack.").rpartition(".")
    return f"{'temporal' if stack else 'spatial'}_res_block.{RESIDUAL_BACK[layer]}.{last}"


def _attention_tail_to_folder(tail: str) -> str:
    tail = tail.replace("time_stack.", "temporal_transformer_blocks.", 1)
    return re.sub(r"^time_pos_embed\.([02])\.", lambda match: f"time_pos_embed.linear_{int(match[1]) // 2 + 1}.", tail)


def vae_from_folder(key: str, levels: int) -> str | None:
    """Return the single-file name (no prefix) of a VAE tensor in the folder layout, or None. levels: up blocks."""
    half, _, tail = key.partition(".")
    if half in ("quant_conv", "post_quant_conv"):
        return key
    if half not in ("encoder", "decoder"):
        return None
    if tail.startswith("time_conv_out."):
        return f"{half}.conv_out.time_mix_conv.{tail[len('time_conv_out.') :]}"
    if tail.startswith(("conv_in.", "conv_out.")):
        return key
    if tail.startswith("conv_norm_out."):
        return f"{half}.norm_out.{tail[len('conv_norm_out.') :]}"
    if match := FOLDER_MIDDLE.fullmatch(tail):
        kind, index, rest = match.groups()
        if kind == "resnets":
            return _vae_residual_from_folder(f"{half}.mid.block_{int(index) + 1}.", rest)
        layer, _, last = rest.rpartition(".")
        name = VAE_ATTENTION.get(layer) or OLD_VAE_ATTENTION.get(layer)
        return None if name is None else f"{half}.mid.attn_1.{name}.{last}"
    if not (match := FOLDER_VAE.fullmatch(tail)):
        return None
    side, block, kind, layer, rest = match[1], int(match[2]), match[3], match[4], match[5]
    level = block if side == "down" else levels - 1 - block
    if kind == "resnets":
        return _vae_residual_from_folder(f"{half}.{side}.{level}.block.{layer}.", rest)
    return f"{half}.{side}.{level}.{side}sample.{rest}"


def _vae_residual_from_folder(start: str, tail: str) -> str | None:
    if tail == "time_mixer.mix_factor":
        return start + "mix_factor"
    if tail.startswith("temporal_res_block."):
        layer, _, rest = tail[len("temporal_res_block.") :].partition(".")
        return f"{start}time_stack.{RESIDUAL[layer]}.{rest}" if layer in RESIDUAL else None
    layer, _, rest = tail.removeprefix("spatial_res_block.").partition(".")
    return f"{start}{'nin_shortcut' if layer == 'conv_shortcut' else layer}.{rest}"


def vae_to_folder(key: str, config: SVDConfig) -> str:
    """Return the folder-layout name of a VAE tensor."""
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
        return f"{half}.mid_block.resnets.{int(block[len('block_') :]) - 1}.{_vae_residual_to_folder(rest, temporal)}"
    match = SINGLE_VAE.fullmatch(key)
    if match is None:
        return key  # conv_in, conv_out
    _, side, level, layer, block, rest = match.groups()
    levels = len(config.vae.decoder.channel_mult) if side == "up" else 0
    start = f"{half}.{side}_blocks.{int(level) if side == 'down' else levels - 1 - int(level)}"
    if block is None:
        return f"{start}.{layer}rs.0.{rest}"
    return f"{start}.resnets.{block}.{_vae_residual_to_folder(rest, temporal)}"


def _vae_residual_to_folder(tail: str, temporal: bool) -> str:
    if tail == "mix_factor":
        return "time_mixer.mix_factor"
    if tail.startswith("time_stack."):
        layer, _, last = tail[len("time_stack.") :].rpartition(".")
        return f"temporal_res_block.{RESIDUAL_BACK[layer]}.{last}"
    layer, _, last = tail.rpartition(".")
    name = "conv_shortcut" if layer == "nin_shortcut" else layer
    return f"{'spatial_res_block.' if temporal else ''}{name}.{last}"


def image_encoder_from_folder(key: str) -> tuple[str, int] | None:
    """Return the single-file name (after `visual.`) of an image encoder tensor, and its place in a fused q, k, v.

    The place is 0 except for k (1) and v (2), whose rows follow those of q. None for other names.
    """
    if key in ENCODER:
        return ENCODER[key], 0
    if not (match := FOLDER_ENCODER.fullmatch(key)):
        return None
    index, layer, last = match.groups()
    start = f"transformer.resblocks.{index}."
    if qkv := FOLDER_QKV.fullmatch(layer):
        return f"{start}attn.in_proj_{last}", "qkv".index(qkv[1])
    return (f"{start}{ENCODER_LAYER[layer]}.{last}", 0) if layer in ENCODER_LAYER else None


@dataclass(frozen=True)
class FolderTensor:
    """How one tensor of the folder layout is made of a module's tensor `key`.

    third: which third of the rows it is (None: all of them). transpose: whether it is transposed.
    """

    key: str
    shape: Shape
    third: int | None = None
    transpose: bool = False


def to_folder(network: str, shapes: dict[str, Shape], config: SVDConfig) -> dict[str, FolderTensor]:
    """Return the tensors of the folder layout for one network ("unet", "vae" or "image_encoder") in module naming."""
    if network == "unet":
        blocks = config.unet.num_res_blocks
        return {unet_to_folder(key, blocks): FolderTensor(key, shape) for key, shape in shapes.items()}
    if network == "vae":
        return {vae_to_folder(key, config): FolderTensor(key, _as_linear(key, shape)) for key, shape in shapes.items()}
    found: dict[str, FolderTensor] = {}
    for key, shape in shapes.items():
        found |= _image_encoder_to_folder(key, shape)
    return found


def _as_linear(key: str, shape: Shape) -> Shape:
    """Return the folder's shape: the 1x1 convolutions of the VAE's attention are linear layers there."""
    return shape[:2] if ".mid.attn_1." in key and len(shape) == 4 else shape


def _image_encoder_to_folder(key: str, shape: Shape) -> dict[str, FolderTensor]:
    if match := SINGLE_QKV.fullmatch(key):
        start, rows = f"vision_model.encoder.layers.{match[1]}.self_attn.", (shape[0] // 3, *shape[1:])
        return {f"{start}{name}_proj.{match[2]}": FolderTensor(key, rows, third) for third, name in enumerate("qkv")}
    if key == "proj":
        return {ENCODER_BACK[key]: FolderTensor(key, shape[::-1], transpose=True)}
    if match := SINGLE_ENCODER.fullmatch(key):
        layer = ENCODER_LAYER_BACK[match[2]]
        return {f"vision_model.encoder.layers.{match[1]}.{layer}.{match[3]}": FolderTensor(key, shape)}
    return {ENCODER_BACK[key]: FolderTensor(key, shape)}
