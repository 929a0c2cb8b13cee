"""Small networks that are added to an SVD model: which file holds which, and what `convert` keeps of it.

Everything here works on names and shapes. The networks themselves are loaded by the modules named after them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .names import Shape, unet_from_folder
from .source import CheckpointError

UNET = "model.diffusion_model."
RESIDUAL_BLOCKS = 2  # per level, in every SVD UNet
PREFIXES = (UNET, "diffusion_model.", "unet.", "")
# What MotionCtrl trained in the temporal blocks; everything else of its file equals svd.
TRAINED = re.compile(r".+\.time_stack\.0\.(norm2|attn2|cc_projection)\..+")
WITHOUT_VERSION_1 = "ControlNeXt-SVD v1, whose network differs; use the v2 file, controlnext-svd_v2-controlnet"


@dataclass(frozen=True)
class AdapterKind:
    """A kind of small network: its key in `licence.BY_VARIANT`, what it is in words, and names that only it has."""

    name: str
    label: str
    pattern: str


KINDS = (
    AdapterKind("motionctrl", "MotionCtrl-SVD camera weights", r"\.cc_projection\."),
    AdapterKind("cameractrl", "CameraCtrl-SVD camera weights", r"qkv_merge\.|^pose_encoder\.encoder_conv_in\."),
    AdapterKind("mimicmotion", "a MimicMotion pose network", r"^(pose_net\.)?final_proj\.weight$|^pose_net\."),
    AdapterKind("controlnext", "a ControlNeXt-SVD pose network", r"^mid_convs\.\d+\.|^down_res\.\d+\."),
    AdapterKind("controlnet", "an SVD ControlNet", r"^controlnet_(cond_embedding|down_blocks|mid_block)\."),
)


def adapter_kind(keys: Mapping[str, object]) -> AdapterKind | None:
    """Return the kind of small network that these tensors are, or belong to; None for a plain model."""
    for kind in KINDS:
        if any(re.search(kind.pattern, key) for key in keys):
            return kind
    return None


def kept_tensors(kind: AdapterKind, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Return the tensors of an adapter's file, new name -> stored name: all but what the base model has already.

    A whole MotionCtrl model is reduced to the tensors that were trained, under single-file names.
    """
    if kind.name != "motionctrl":
        return {key: key for key in shapes}
    kept = {}
    for key in shapes:
        name = single_file_name(key)
        if name is not None and TRAINED.fullmatch(name):
            kept[UNET + name] = key
    return kept


def single_file_name(key: str) -> str | None:
    """Return a UNet tensor's name in single-file naming without a prefix, from either layout; None for others."""
    rest = next(key[len(prefix) :] for prefix in PREFIXES if key.startswith(prefix))
    if rest.startswith(("input_blocks.", "middle_block.", "output_blocks.")):
        return rest
    return unet_from_folder(rest, RESIDUAL_BLOCKS, frozenset())


def check_version(kind: AdapterKind, shapes: Mapping[str, Shape], name: str) -> None:
    """Raise CheckpointError for a version of an adapter that nothing here runs."""
    if kind.name == "controlnext" and "scale" in shapes:
        raise CheckpointError(f"{name} is {WITHOUT_VERSION_1}")
