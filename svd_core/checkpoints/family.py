"""What a file of the wider SVD family is, and where it goes: told by tensor names and shapes, never by its name.

Every loader asks here before it refuses a file, so that a file in the wrong place is called what it is. The names are
those of the public files and code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .detect import CONTROLNET, LORA, has_temporal_layers, image_model, is_controlnet, is_lora, other_model
from .names import Shape
from .source import CheckpointError, some


@dataclass(frozen=True)
class AdapterKind:
    """A kind of small network that is added to a model.

    name: its key in `licence.BY_VARIANT`. label: what it is. pattern: of tensor names that only it has, in a text with
    a line break and a dot before each. place: the node and the option that load it.
    """

    name: str
    label: str
    pattern: str
    place: str


KINDS = (
    AdapterKind(
        "motionctrl", "MotionCtrl-SVD camera weights", r"\.cc_projection\.(?<!\n\.cc_projection\.)",
        "Load Camera Weights (SVD) or --camera-weights",
    ),
    AdapterKind(
        "cameractrl", "CameraCtrl-SVD camera weights",
        r"qkv_merge\.|\n\.pose_encoder\.encoder_conv_in\.|encoder_down_attention_blocks\.",
        "Load Camera Weights (SVD) or --camera-weights",
    ),
    AdapterKind(
        "mimicmotion", "a MimicMotion pose network", r"\n\.(?:(pose_net\.)?final_proj\.weight$|pose_net\.)",
        "Load Pose Network (SVD) or --pose-network",
    ),
    AdapterKind(
        "controlnext", "a ControlNeXt-SVD pose network", r"\n\.(mid_convs|down_res)\.\d+\.",
        "Load Pose Network (SVD) or --pose-network",
    ),
    AdapterKind(
        "controlnet", "an SVD ControlNet", r"\n\.controlnet_(cond_embedding|down_blocks|mid_block)\.",
        "Load SVD ControlNet (put it into models/controlnet) or --controlnet",
    ),
    AdapterKind(
        "backward_motion", "backward motion of Generative Inbetweening", r"\n\.backward_motion\.",
        "Load In-between Weights (SVD) or --between-weights",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """A kind of file that nothing here runs: what it is, and what to use instead.

    patterns: each must match some tensor name with a dot before it, such as ".conv_in.weight". channels: what the
    UNet's first convolution takes, None for any.
    """

    patterns: tuple[str, ...]
    what: str
    instead: str
    channels: int | None = None


DRAG = "use Cut and Drag (SVD) or --drag, which need no weights"
POSES = "use MimicMotion or ControlNeXt-SVD to move a person by poses"
PLAIN = "use svd or svd_xt"
UNET_LAYER = r"\.(temporal_(res_block|transformer_blocks)|time_stack|time_mixer)\."
FOREIGN = (
    Foreign((r"\.flow_encoder\.",), "the ControlNet of MOFA-Video", DRAG),
    Foreign((r"\.controlnet_cond_embedding\.blocks_feature\.",), "the ControlNet of DragAnything", DRAG),
    Foreign((r"\.flow_cond_norm\.",), "DragNUWA, whose UNet also takes optical flow", DRAG),
    Foreign(
        (r"\.time_mixer_motion\.", r"\.time_mix_blocks\."), "SV4D 2.0, whose UNet also attends to other views",
        "use sv3d_p for a turntable of one picture",
    ),
    Foreign(
        (r"\.time_mix_blocks\.",), "SV4D, whose UNet also attends to other views",
        "use sv3d_p for a turntable of one picture",
    ),
    Foreign(
        (r"\.(to_k_ip|to_v_ip)\.", UNET_LAYER),
        "an SVD UNet with IP-Adapter layers, such as Sonic's for talking heads", POSES,
    ),
    Foreign(
        (r"\A(\.(proj[123]|norm)\.(weight|bias)\n){6,8}\Z",),
        "an audio network of a talking head, such as Sonic's", POSES,
    ),
    Foreign((r"\.id_to_[kv]\.", UNET_LAYER), "StableAnimator, whose UNet also attends to a face", POSES),
    Foreign((r"\.cond_time_stack_embed\.",), "a driving world model, such as Vista or GEM", PLAIN),
    Foreign((r"\.sparse_attention\.", UNET_LAYER), "FramePainter, whose UNet edits a picture by strokes", PLAIN),
    Foreign((r"\.down_blocks_adapter\.",), "Ctrl-Adapter, which fits image ControlNets to video models",
            "use a ControlNet that was trained for SVD"),
    Foreign((UNET_LAYER,), "StereoCrafter, whose UNet takes a mask as a ninth channel",
            "use DepthCrafter for the depth of a video", 9),
    Foreign((UNET_LAYER,), "an SVD UNet that takes a second picture or map, such as SVFR's or GeometryCrafter's",
            PLAIN, 12),
)  # fmt: skip
MIMICMOTION = "mimicmotion"
FIRST_CONVOLUTION = re.compile(r"(?:.*\.)?(?:conv_in|input_blocks\.0\.0)\.weight")
# Only a whole UNet has residual blocks on its way up; ControlNets and adapters have none.
WHOLE = re.compile(r"\.output_blocks\.0\.0\.in_layers\.|(?<!decoder)\.up_blocks\.0\.resnets\.0\.")
UNET_PART = re.compile(r"\.(input|output)_blocks\.\d|(?<!coder)\.(down|up)_blocks\.\d")
MODEL_PLACE = "for Load SVD Model or --model"
PART_PLACE = "for complete_from of Load SVD Model or --complete-from"
PARTS = (
    (re.compile(r"\.(encoder|decoder)\.(conv_in|down|down_blocks|up|up_blocks|mid|mid_block)\."), "a VAE"),
    (re.compile(r"\.(visual\.transformer|vision_model\.encoder)\."), "an image encoder"),
)


def adapter_kind(shapes: Mapping[str, object]) -> AdapterKind | None:
    """Return the kind of small network that these tensors are, or belong to; None for a plain model."""
    names = "\n" + _one_text(shapes)
    for kind in KINDS:
        if re.search(kind.pattern, names, re.MULTILINE):
            # A ControlNet without layers that mix frames is one of an image model.
            return None if kind.name == "controlnet" and not has_temporal_layers(shapes) else kind
    return None


def foreign_kind(shapes: Mapping[str, Shape]) -> Foreign | None:
    """Return what a file is that nothing here runs, None for every other one."""
    names = _one_text(shapes)
    first = {shape[1] for key, shape in shapes.items() if len(shape) == 4 and FIRST_CONVOLUTION.fullmatch(key)}
    for kind in FOREIGN:
        fits = kind.channels is None or kind.channels in first
        if fits and all(re.search(pattern, names, re.MULTILINE) for pattern in kind.patterns):
            return kind
    return None


def has_whole_unet(shapes: Mapping[str, object]) -> bool:
    """Return whether the tensors hold a whole UNet, whatever else is among them."""
    return bool(WHOLE.search(_one_text(shapes)))


def not_a_model(shapes: Mapping[str, Shape]) -> str | None:
    """Return what a file is that does not load as a model, and what to do; None for models and what is unknown."""
    foreign, kind = foreign_kind(shapes), adapter_kind(shapes)
    if foreign is not None:
        return f"{foreign.what}, which is not supported; {foreign.instead}"
    if kind is None or (kind.name == MIMICMOTION and has_whole_unet(shapes)):
        return None
    return f"{kind.label}, for {kind.place}; give its base model here, such as svd or svd_xt"


def what_it_is(shapes: Mapping[str, Shape]) -> str:
    """Return what a file is and where it goes, as the words after "FILE is"."""
    foreign, kind = foreign_kind(shapes), adapter_kind(shapes)
    if foreign is not None:
        return f"{foreign.what}, which is not supported"
    if kind is not None and kind.name == MIMICMOTION and has_whole_unet(shapes):
        return f"a MimicMotion model, {MODEL_PLACE}, and for its pose network {kind.place}"
    if kind is not None:
        return f"{kind.label}, for {kind.place}"
    if shapes and is_lora(shapes):
        return f"{LORA}, for Load SVD LoRA or --lora"
    return _model(shapes)


def wrong_file(file: str, shapes: Mapping[str, Shape], remedy: str) -> CheckpointError:
    """Return the error for a file in a loader that cannot use it. remedy: what to give there."""
    return CheckpointError(f"{file} is {what_it_is(shapes)}; {remedy}")


def _model(shapes: Mapping[str, Shape]) -> str:
    """Return what a file is that is no adapter: a model, a part of one, or something for other models."""
    if is_controlnet(shapes):
        return f"{CONTROLNET} for image models, without temporal layers, which is not for SVD"
    whole, other = has_whole_unet(shapes), other_model(shapes)
    if whole and has_temporal_layers(shapes):
        return f"an SVD model, {MODEL_PLACE}"
    if other is not None or whole:
        return f"{other or image_model(shapes)}, which is not for SVD"
    names = _one_text(shapes)
    if UNET_PART.search(names):
        return "a part of a UNet, which is of no use alone"
    parts = [what for pattern, what in PARTS if pattern.search(names)]
    if parts:
        return f"{' and '.join(parts)}, {PART_PLACE}"
    return f"not a known file ({len(shapes)} tensors: {some(shapes)})"


def _one_text(shapes: Mapping[str, object]) -> str:
    # One text instead of two thousand names: it is searched at the speed of C, where patterns begin with fixed letters.
    return "".join(f".{key}\n" for key in shapes)
