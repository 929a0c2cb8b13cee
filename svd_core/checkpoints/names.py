"""Names: folder layout to single-file layout by rule, key by key (spec section 1.4). Knows no files, no values."""

import re

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
TOWER = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
    "visual_projection.weight": "proj",
}
TOWER_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
UNET_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
UNET_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
VAE_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
VAE_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
TOWER_BLOCK = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
TOWER_QKV = re.compile(r"self_attn\.([qkv])_proj")


def unet_from_folder(key: str, blocks: int, attention_up: frozenset[int]) -> str | None:
    """Single-file name of a folder-layout UNet key, or None if it is not one.

    `blocks` = residual blocks per level; `attention_up` = indices of the up blocks that have attention (there the
    upsampler is the third module of its block, not the second).
    """
    for start, name in UNET_TOP.items():
        if key.startswith(start):
            return name + key[len(start) :]
    if match := UNET_MIDDLE.fullmatch(key):
        kind, index, tail = match.groups()
        position = 1 if kind == "attentions" else 2 * int(index)
        return _unet_tail(f"middle_block.{position}.", kind, tail)
    if not (match := UNET_BLOCK.fullmatch(key)):
        return None
    way, block, kind, layer, tail = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (blocks + 1)}.0.op.{tail.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (blocks + 1) + blocks}.{1 + (block in attention_up)}.{tail}"
    index = block * (blocks + 1) + layer
    start = f"input_blocks.{index + 1}." if way == "down" else f"output_blocks.{index}."
    return _unet_tail(start + ("1." if kind == "attentions" else "0."), kind, tail)


def _unet_tail(start: str, kind: str, tail: str) -> str | None:
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


def vae_from_folder(key: str, levels: int) -> str | None:
    """Single-file name (no prefix) of a folder-layout autoencoder key, or None. `levels` = number of up blocks."""
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
    if match := VAE_MIDDLE.fullmatch(tail):
        kind, index, rest = match.groups()
        if kind == "resnets":
            return _vae_residual(f"{half}.mid.block_{int(index) + 1}.", rest)
        layer, _, last = rest.rpartition(".")
        return f"{half}.mid.attn_1.{VAE_ATTENTION[layer]}.{last}" if layer in VAE_ATTENTION else None
    if not (match := VAE_BLOCK.fullmatch(tail)):
        return None
    way, block, kind, layer, rest = match[1], int(match[2]), match[3], match[4], match[5]
    level = block if way == "down" else levels - 1 - block
    if kind == "resnets":
        return _vae_residual(f"{half}.{way}.{level}.block.{layer}.", rest)
    return f"{half}.{way}.{level}.{way}sample.{rest}"


def _vae_residual(start: str, tail: str) -> str | None:
    if tail == "time_mixer.mix_factor":
        return start + "mix_factor"
    if tail.startswith("temporal_res_block."):
        layer, _, rest = tail[len("temporal_res_block.") :].partition(".")
        return f"{start}time_stack.{RESIDUAL[layer]}.{rest}" if layer in RESIDUAL else None
    layer, _, rest = tail.removeprefix("spatial_res_block.").partition(".")
    return f"{start}{'nin_shortcut' if layer == 'conv_shortcut' else layer}.{rest}"


def tower_from_folder(key: str) -> tuple[str, int] | None:
    """Single-file name (after `visual.`) of a folder-layout image tower key and its place in a fused q, k, v, or None.

    The place is 0 except for k (1) and v (2), whose rows follow those of q.
    """
    if key in TOWER:
        return TOWER[key], 0
    if not (match := TOWER_BLOCK.fullmatch(key)):
        return None
    index, layer, last = match.groups()
    start = f"transformer.resblocks.{index}."
    if qkv := TOWER_QKV.fullmatch(layer):
        return f"{start}attn.in_proj_{last}", "qkv".index(qkv[1])
    return (f"{start}{TOWER_LAYER[layer]}.{last}", 0) if layer in TOWER_LAYER else None
