"""Identify checkpoints: the variants of SVD (spec section 1.3), and models that are not SVD.

Variants follow from the metadata and the name of a file, other models from tensor names that SVD does not have.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..files import printable
from ..networks.variants import BY_VECTOR, NATIVE
from .names import Shape
from .source import CheckpointError

REMEDY = "give an SVD file such as svd_xt.safetensors, or a diffusers folder such as stable-video-diffusion-img2vid-xt"

VERSION_1_1 = re.compile(r"(?<!\d)1[-_. ]1(?!\d)")
XT = re.compile(r"(?<![a-z])xt(?![a-z])|svdxt")
ANIMATELCM = re.compile(r"animate[-_ ]?lcm")  # AnimateLCM-SVD-xt, distilled from either XT (spec section 11.2)
# Fine-tuned UNets with the same tensors as SVD; only their names distinguish them.
FINE_TUNED = {
    name: re.compile(f"{start}[-_ ]?{end}")
    for name, start, end in (
        ("mimicmotion", "mimic", "motion"),
        ("controlnext", "control", "next"),
        ("depthcrafter", "depth", "crafter"),
        ("normalcrafter", "normal", "crafter"),
    )
}
SVD = re.compile(r"svd|stable[-_ ]?video[-_ ]?diffusion|img2vid")
# The largest values that metadata may give: they size memory before anything else does.
MOST = {"head_channels": 1024, "clip_head_channels": 1024, "frames": 1024, "width": 8192, "height": 8192}


@dataclass(frozen=True)
class Hints:
    """The metadata `svd.*` of a file; None where it has no such entry."""

    head_channels: int | None = None
    clip_head_channels: int | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    variant: str | None = None
    control_scale: float | None = None


def read_hints(metadata: Mapping[str, str]) -> Hints:
    """Read the `svd.*` keys of a file's metadata; raises CheckpointError for values that make no sense."""
    numbers: dict[str, int] = {}
    for name, most in MOST.items():
        text = metadata.get(f"svd.{name}")
        if text is None:
            continue
        if not re.fullmatch(r"[1-9]\d{0,5}", str(text).strip()) or int(text) > most:
            raise CheckpointError(
                f"metadata key svd.{name} is '{printable(text)}'; it must be a whole number from 1 to {most}"
            )
        numbers[name] = int(text)
    for side in ("width", "height"):
        if numbers.get(side, 8) % 8:
            raise CheckpointError(f"metadata key svd.{side} is {numbers[side]}; pixel sizes are multiples of 8")
    variant = metadata.get("svd.variant")
    if variant is not None and variant not in NATIVE:
        raise CheckpointError(
            f"metadata key svd.variant is '{printable(variant)}'; it must be one of {', '.join(NATIVE)}"
        )
    return Hints(variant=variant, control_scale=_control_scale(metadata), **numbers)


def _control_scale(metadata: Mapping[str, str]) -> float | None:
    """Return the entry `svd.control_scale`, None without one; raises CheckpointError outside 0.001 to 10."""
    text = metadata.get("svd.control_scale")
    if text is None:
        return None
    try:
        scale = float(str(text))
    except ValueError:
        scale = math.nan
    if not 0.001 <= scale <= 10:
        raise CheckpointError(
            f"metadata key svd.control_scale is '{printable(text)}'; it must be a number from 0.001 to 10"
        )
    return scale


def guess_variant(name: str, vector_channels: int, frames: int | None, official_size: bool) -> str:
    """Return the variant by vector width, else by the name of the file, else by the frame count of an official UNet."""
    if vector_channels in BY_VECTOR:
        return BY_VECTOR[vector_channels]
    name = name.lower()
    if ANIMATELCM.search(name):
        return "animatelcm"
    for variant, pattern in FINE_TUNED.items():
        if pattern.search(name):
            return variant
    extended, known = bool(XT.search(name)), bool(SVD.search(name))
    if (extended or known) and VERSION_1_1.search(name):
        return "svd_xt_1_1"  # 1.1 exists as XT only
    if extended:
        return "svd_xt"
    if known:
        return "svd"
    return {14: "svd", 25: "svd_xt"}.get(frames or 0, "custom") if official_size else "custom"


LORA = "a LoRA"
CONTROLNET = "a ControlNet"
CONTROLNET_NAMES = r"^control_model\.|input_hint_block|controlnet_"
LORA_NAMES = r"lora[_.](A|B|up|down)|lora_te|\.(diff|diff_b|w_norm|b_norm|alpha|dora_scale)$"
# Names that SVD does not have. A single one of them identifies the model.
OTHER_MODELS = (
    (LORA_NAMES, LORA),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (CONTROLNET_NAMES, CONTROLNET),
    (r"\.cc_projection\.", "MotionCtrl-SVD, which adds camera layers"),
    (r"qkv_merge|pose_encoder|pose_net", "an SVD model with added pose or camera layers"),
    (r"double_blocks\.|joint_blocks\.|joint_transformer_blocks|patch_embedding\.|adaln_single|transformer_blocks\.\d+\.attn1\.to_q$",
     "a diffusion transformer"),
    (r"^conditioner\.embedders\.1\.model\.|text_model_2", "an SDXL checkpoint"),
    (r"^cond_stage_model\.", "a Stable Diffusion image checkpoint"),
)  # fmt: skip
# Width of the text or image embedding that cross-attention takes, by model family.
BY_CONTEXT = {768: "a Stable Diffusion 1 UNet", 1024: "a Stable Diffusion 2 UNet", 1280: "an SDXL refiner UNet",
              2048: "an SDXL UNet"}  # fmt: skip
CONTEXT = re.compile(r"attn2\.to_k\.weight$")
SDXL = re.compile(r"sdxl|sd[-_ ]?xl|(?<![a-z])xl(?![a-z])")
TEMPORAL = re.compile(r"time_stack|temporal_transformer_blocks|temporal_res_block")


def other_model(keys: Iterable[str]) -> str | None:
    """Return what kind of model the tensor names belong to, if it is a known kind other than SVD."""
    keys = list(keys)
    for pattern, what in OTHER_MODELS:
        if any(re.search(pattern, key) for key in keys):
            return what
    return None


def image_model(shapes: Mapping[str, Shape]) -> str:
    """Return what kind of image UNet these tensors belong to, by the width of its cross-attention."""
    widths = {shape[1] for key, shape in shapes.items() if len(shape) == 2 and CONTEXT.search(key)}
    return BY_CONTEXT.get(max(widths, default=0), "an image model")


def is_controlnet(keys: Iterable[str]) -> bool:
    """Return whether any of the tensors belongs to a ControlNet."""
    return any(map(re.compile(CONTROLNET_NAMES).search, keys))


def is_sdxl_vae(name: str) -> bool:
    """Return whether the name of a file of an image VAE is that of SDXL's: its shapes are those of SD's."""
    return bool(SDXL.search(name.lower()))


def is_lora(keys: Iterable[str]) -> bool:
    """Return whether all of the tensors belong to a LoRA, and none is a weight of a network."""
    return all(map(re.compile(LORA_NAMES).search, keys))


def has_temporal_layers(keys: Iterable[str]) -> bool:
    """Return whether any of the tensors belongs to a layer that mixes frames, under any prefix and in either layout."""
    return any(map(TEMPORAL.search, keys))
