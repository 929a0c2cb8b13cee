"""Files of the wider SVD family that are not models by themselves, or that nothing here runs: what they are.

Told by tensor names and shapes (the key tables of the public files), so that a file in the wrong place is named and
sent to the right one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .names import Shape

ADAPTER = "it is an adapter, not a model: load its base, svd or svd_xt, and add this file there"
UNSUPPORTED = "it is not supported; use svd, svd_xt or another SVD model"


@dataclass(frozen=True)
class Member:
    """One kind of file: what it is, and what to do with it.

    Each of the patterns must match some tensor name with a dot before it, such as ".conv_in.weight".
    """

    patterns: tuple[str, ...]
    what: str
    remedy: str


MEMBERS = (
    Member((r"\.flow_encoder\.",), "the ControlNet of MOFA-Video", UNSUPPORTED),
    Member(
        (r"controlnet_cond_embedding\.conv_in\.weight$", r"temporal_(res_block|transformer_blocks)\."),
        "a ControlNet for SVD",
        "put it into models/controlnet and use Load SVD ControlNet, or --controlnet on the command line",
    ),
    Member(
        (r"\.mid_convs\.1\.weight$", r"\.embedding\.0\.weight$"),
        "the control network of ControlNeXt-SVD v2",
        ADAPTER,
    ),
    Member((r"\.final_proj\.weight$", r"conv_layers\.0\.weight$"), "the pose net of MimicMotion", ADAPTER),
    Member(
        (r"encoder_down_attention_blocks\.", r"encoder_conv_in\.weight$"), "the pose encoder of CameraCtrl", ADAPTER
    ),
    Member((r"time_mix_blocks\.",), "SV4D, whose UNet also attends to other views", UNSUPPORTED),
    Member((r"\.audio2(token|bucket)\.",), "the audio adapter of Sonic", UNSUPPORTED),
)
FIRST_CONVOLUTION = re.compile(r"(?:.*\.)?(?:conv_in|input_blocks\.0\.0)\.weight")
STEREO = Member((), "StereoCrafter, whose UNet takes a mask as a ninth channel", UNSUPPORTED)


def family_member(shapes: Mapping[str, Shape]) -> Member | None:
    """Return what a file with these tensors is, None for SVD models and for what is unknown."""
    # One text instead of two thousand names, and patterns that begin with letters: both are searched at the speed of C.
    names = "".join(f".{key}\n" for key in shapes)
    whole = any(f".{layer}.weight\n" in names for layer in ("out.2", "conv_out"))
    for member in MEMBERS:
        if all(re.search(pattern, names, re.MULTILINE) for pattern in member.patterns):
            # A whole UNet with the pose net beside it is a model, and has a loader of its own.
            return None if whole and member.remedy == ADAPTER else member
    first = [shape for key, shape in shapes.items() if FIRST_CONVOLUTION.fullmatch(key) and len(shape) == 4]
    temporal = any("temporal_res_block" in key or "time_stack" in key for key in shapes)
    if temporal and any(shape[1] == 9 for shape in first):
        return STEREO
    return None
