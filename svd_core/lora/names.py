"""Names of LoRA tensors in every known spelling, mapped to layers of the UNet (spec section 11.1).

Works on names alone. Module paths are those of the single-file layout, such as
`input_blocks.1.1.time_stack.0.attn1.to_q`.
"""

import re
from collections.abc import Iterable

from ..checkpoints.names import unet_to_folder
from ..checkpoints.parts import WRAPPERS
from ..networks.config import UNetConfig

PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "lora_unet_", "lora_unet.",
            "lycoris_unet_", "lycoris_", "unet.", "unet_")  # fmt: skip
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
        (r"\.(?:diff|w_norm)$", "diff"),  # of ComfyUI's LoraSave, and of LyCORIS for norms
        (r"\.(?:diff_b|b_norm)$", "bias"),
    )
)
UNSUPPORTED = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"\.hada_", "LoHa factors, which are not read"),
        (r"\.lokr_", "LoKr factors, which are not read"),
        (r"\.oft_|\.boft_", "rotations (OFT), which are not read"),
        (r"\.set_weight$|\.reshape_weight$", "replaced weights, which are not read"),
        (r"\.lora_[AB]\.bias$|\.lora_(up|down)\.bias$", "biases of factors, which are not read"),
    )
)
TEXT_ENCODER = re.compile(r"(base_model\.model\.)?(lora_te\d*[_.]|te\d?_|text_encoder|lora_prior_|text_model\.)")
# Names that only LoRAs for other models have. A single one is enough, even if other names also occur in SVD.
OTHER_MODELS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"motion_modules", "AnimateDiff, whose motion modules SVD does not have"),
        (r"lora_te2_|text_encoder_2_|attentions_\d+_transformer_blocks_[1-9]|"
         r"(in|out)put_blocks_\d+_1_transformer_blocks_[1-9]|middle_block_1_transformer_blocks_[1-9]", "SDXL"),
        (r"double_blocks|single_blocks|single_transformer_blocks|joint_(transformer_)?blocks",
         "a diffusion transformer, such as Flux, Hunyuan or SD 3"),
        (r"^blocks_\d+_(self_attn|cross_attn|attn)", "a video transformer, such as Wan"),
        (r"^(transformer_)?transformer_blocks_\d+", "a diffusion transformer, such as Flux or LTX"),
        (r"down_blocks_\d+_temp_(attentions|convs)|transformer_in_", "a text-to-video model, such as ModelScope"),
    )
)  # fmt: skip
FAMILIES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("self-attention", r"\.attn1\."),
        ("cross-attention", r"\.attn2\."),
        ("feed-forward", r"\.ff(_in)?\."),
        ("projections", r"\.proj_(in|out)$"),
        ("norms", r"\.norm(\d|_in)?$|layers\.0$|^out\.0$"),
        ("convolutions", r"\.(in|out)_layers\.|\.skip_connection$|\.op$|\.conv$|^input_blocks\.0\.|^out\."),
    )
)


def read_key(key: str) -> tuple[str, str] | None:
    """Return the layer's name as written and the slot of a tensor, or None.

    The slot is down, up, mid, alpha, magnitude, dora_scale, diff (of the weight) or bias (diff of the bias).
    """
    for pattern, slot in SLOTS:
        if match := pattern.search(key):
            return key[: match.start()], slot
    return None


def unsupported(key: str) -> str | None:
    """Return what a tensor is that belongs to an adapter of a kind that is not read, or None."""
    return next((reason for pattern, reason in UNSUPPORTED if pattern.search(key)), None)


def stem(name: str) -> str:
    """Return a layer's name without prefixes and wrappers, with underscores for dots; spellings differ in these."""
    name = ".".join(part for part in name.split(".") if part not in WRAPPERS).replace("_orig_mod_", "")
    start = ""
    while start != name:
        start = name
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
    name = name.replace(".processor.", ".")
    if name.endswith(("attn1.to_out", "attn2.to_out")):
        name += ".0"
    return name.replace(".", "_")


def other_lora(stems: Iterable[str]) -> str | None:
    """Return the model that layers or tensors of these stems belong to for certain, if that is not SVD."""
    texts = list(stems)
    return next((what for pattern, what in OTHER_MODELS if any(map(pattern.search, texts))), None)


def layer_table(paths: Iterable[str], config: UNetConfig) -> dict[str, str]:
    """Return stem -> module path, in both layouts, for the layers `paths` of a UNet.

    Residual blocks also have the name that they have in two-dimensional UNets, whose LoRAs fit where their sizes do
    (SVD began as Stable Diffusion 2.1).
    """
    table: dict[str, str] = {}
    for path in paths:
        folder = folder_path(path, config.num_res_blocks)
        for name in (path, folder, folder.replace(".spatial_res_block.", ".")):
            table.setdefault(name.replace(".", "_"), path)
    return table


def folder_path(path: str, blocks: int) -> str:
    """Return the folder layout's name of a module path of the UNet. blocks: residual blocks per level."""
    return unet_to_folder(f"{path}.weight", blocks).removesuffix(".weight")


def is_temporal(path: str) -> bool:
    """Return whether a layer of the UNet mixes frames, or serves layers that do."""
    return ".time_stack." in path or ".time_pos_embed." in path


def family(path: str) -> str:
    """Return the kind of layer, for reports."""
    kind = next((name for name, pattern in FAMILIES if pattern.search(path)), "embeddings")
    return f"{'temporal' if is_temporal(path) else 'spatial'} {kind}"
