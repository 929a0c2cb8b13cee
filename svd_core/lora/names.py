"""Names of LoRA tensors in every known spelling, and the layers of the UNet that they mean (spec section 11.1).

Knows no files and no values. Module paths are those of the single-file layout, such as
`input_blocks.1.1.time_stack.0.attn1.to_q`.
"""

import re
from collections.abc import Iterable

from ..checkpoints.names import RESIDUAL, UNET_TOP
from ..networks.config import UNetConfig

PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "lora_unet_", "lora_unet.",
            "lycoris_unet_", "lycoris_", "module.", "unet.", "unet_")  # fmt: skip
PAIR = r"(?:[._]lora|\.lora_linear_layer)"  # before down and up in what trainers and attention processors write
ADAPTER = r"(?:\.(?!weight$)\w+)?(?:\.weight)?$"  # PEFT may store the adapter's name
SLOTS = tuple(
    (re.compile(pattern), slot)
    for pattern, slot in (
        (rf"\.lora_A{ADAPTER}|(?:\.lora_|{PAIR}\.)down(?:\.weight)?$", "down"),
        (rf"\.lora_B{ADAPTER}|(?:\.lora_|{PAIR}\.)up(?:\.weight)?$", "up"),
        (r"\.lora_mid(?:\.weight)?$", "mid"),
        (rf"{PAIR}?\.(?:lora_|network_)?alpha$", "alpha"),
        (rf"\.lora_magnitude_vector{ADAPTER}", "magnitude"),
        (r"\.dora_scale$", "dora_scale"),
    )
)
UNSUPPORTED = (
    (r"\.hada_", "LoHa factors, which are not read"),
    (r"\.lokr_", "LoKr factors, which are not read"),
    (r"\.oft_|\.boft_", "rotations (OFT), which are not read"),
    (r"\.diff(_b)?$|\.[wb]_norm$", "whole differences, which are not read"),
    (r"\.lora_[AB]\.bias$|\.lora_(up|down)\.bias$", "biases, which are not read"),
)
TEXT = re.compile(r"(base_model\.model\.)?(lora_te\d*[_.]|te\d?_|text_encoder|lora_prior_|text_model\.)")
# What no LoRA for SVD has; any of these tells another model even where some names happen to be SVD's too.
FOREIGN = (
    (r"motion_modules", "AnimateDiff", "AnimateDiff moves other models"),
    (r"lora_te2_|text_encoder_2_|attentions_\d+_transformer_blocks_[1-9]|"
     r"(in|out)put_blocks_\d+_1_transformer_blocks_[1-9]|middle_block_1_transformer_blocks_[1-9]", "SDXL", ""),
    (r"double_blocks|single_blocks|single_transformer_blocks|joint_(transformer_)?blocks", "a diffusion transformer",
     "such as Flux, Hunyuan or SD 3"),
    (r"^blocks_\d+_(self_attn|cross_attn|attn)", "a video transformer", "such as Wan"),
    (r"^(transformer_)?transformer_blocks_\d+", "a diffusion transformer", "such as Flux or LTX"),
    (r"down_blocks_\d+_temp_(attentions|convs)|transformer_in_", "a text-to-video model", "such as ModelScope"),
)  # fmt: skip


def read_key(key: str) -> tuple[str, str] | None:
    """Layer name as written and slot (down, up, mid, alpha, magnitude, dora_scale) of a tensor, or None."""
    for pattern, slot in SLOTS:
        if match := pattern.search(key):
            return key[: match.start()], slot
    return None


def unsupported(key: str) -> str | None:
    """What a tensor is that belongs to an adapter of a kind that is not read, or None."""
    return next((what for pattern, what in UNSUPPORTED if re.search(pattern, key)), None)


def stem(name: str) -> str:
    """A layer name without prefixes, with underscores for dots, which is all that the spellings differ in."""
    start = ""
    while start != name:
        start = name
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
    name = name.replace(".processor.", ".")
    if name.endswith(("attn1.to_out", "attn2.to_out")):
        name += ".0"
    return name.replace(".", "_")


def foreign(stems: Iterable[str]) -> str | None:
    """The model that layers or tensors of these stems are surely of, if that is not SVD, in words."""
    texts = list(stems)
    for pattern, what, more in FOREIGN:
        if any(re.search(pattern, text) for text in texts):
            return f"{what}, {more}" if more else what
    return None


def layer_table(paths: Iterable[str], config: UNetConfig) -> dict[str, str]:
    """Stem -> module path, in both layouts, for the layers `paths` of a UNet.

    Residual blocks are also known by the name that they have in two-dimensional UNets, whose LoRAs fit where their
    sizes do (SVD began as Stable Diffusion 2.1).
    """
    table: dict[str, str] = {}
    for path in paths:
        folder = folder_path(path, config.num_res_blocks)
        for name in (path, folder, folder.replace(".spatial_res_block.", ".")):
            table.setdefault(name.replace(".", "_"), path)
    return table


_TOP = {new.rstrip("."): old.rstrip(".") for old, new in UNET_TOP.items()}
_RESIDUAL = {new: old for old, new in RESIDUAL.items()}


def folder_path(path: str, blocks: int) -> str:
    """The folder layout's name of a single-file module path: the inverse of `checkpoints.keys.unet_from_folder`.

    blocks: residual blocks per level. Paths that are not of the UNet come back unchanged.
    """
    if path in _TOP:
        return _TOP[path]
    if match := re.fullmatch(r"middle_block\.(\d)\.(.+)", path):
        place = int(match[1])
        start = "mid_block.attentions.0." if place == 1 else f"mid_block.resnets.{place // 2}."
        return start + _tail(match[2], attention=place == 1)
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", path)
    if not match:
        return path
    way, index, place, tail = match[1], int(match[2]), int(match[3]), match[4]
    level, layer = divmod(index - (way == "input"), blocks + 1)
    block = f"{'down' if way == 'input' else 'up'}_blocks.{level}."
    if tail == "op":
        return f"{block}downsamplers.0.conv"
    if tail == "conv":
        return f"{block}upsamplers.0.conv"
    kind = "attentions" if place == 1 else "resnets"
    return f"{block}{kind}.{layer}.{_tail(tail, attention=place == 1)}"


def _tail(tail: str, *, attention: bool) -> str:
    if attention:
        tail = re.sub(r"^time_pos_embed\.([02])", lambda m: f"time_pos_embed.linear_{int(m[1]) // 2 + 1}", tail)
        return tail.replace("time_stack.", "temporal_transformer_blocks.", 1)
    block = "temporal_res_block" if tail.startswith("time_stack.") else "spatial_res_block"
    layer = tail.removeprefix("time_stack.")
    return f"{block}.{_RESIDUAL[layer]}" if layer in _RESIDUAL else tail


def is_temporal(path: str) -> bool:
    """Whether a layer of the UNet sees more than one frame (or serves layers that do)."""
    return ".time_stack." in path or ".time_pos_embed." in path


def family(path: str) -> str:
    """The kind of layer, for reports."""
    kind = "embeddings"
    for what, pattern in (
        ("self-attention", r"\.attn1\."),
        ("cross-attention", r"\.attn2\."),
        ("feed-forward", r"\.ff(_in)?\."),
        ("projections", r"\.proj_(in|out)$"),
        ("convolutions", r"\.(in|out)_layers\.|\.skip_connection$|\.op$|\.conv$|^input_blocks\.0\.|^out\."),
    ):
        if re.search(pattern, path):
            kind = what
            break
    return f"{'temporal' if is_temporal(path) else 'spatial'} {kind}"
