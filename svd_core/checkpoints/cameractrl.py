"""Load CameraCtrl-SVD: the pose encoder and the merging layers, as `convert` writes them from the published pickle."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.cameractrl import CameraCtrl
from ..networks.config import UNetConfig
from ..networks.motionctrl import block_name
from ..networks.unet import transformer_places
from .adapters import expect_kind, fill_adapter, shapes_of, single_file_name, stored_place
from .load import read_state_dict
from .skeleton import skeleton
from .source import CheckpointError

ENCODER, FIRST_POSITIONS = "pose_encoder.", "encoder_down_attention_blocks.0.0.attention_blocks.0.pos_encoder.pe"
MERGE = ".1.time_stack.0.attn1.processor.qkv_merge."
MOST_FRAMES = 1024
REMEDY = (
    "use CameraCtrl-SVD (CameraCtrl_svd.ckpt for svd or CameraCtrl_svdxt.ckpt for svd_xt, after "
    "`python -m svd_core convert`)"
)


def load_cameractrl(
    path: str | PathLike, config: UNetConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> CameraCtrl:  # fmt: skip
    """Load CameraCtrl for a UNet of that configuration; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors = read_state_dict(str(path))
    return cameractrl_of(tensors, Path(path).name, config, device=device, dtype=dtype, ops=ops)


def cameractrl_of(
    tensors: Mapping[str, Tensor], name: str, config: UNetConfig, *, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, ops=nn,
) -> CameraCtrl:  # fmt: skip
    """Return CameraCtrl of tensors with the prefixes `pose_encoder.` and `unet.`; the rest of the UNet is left out."""
    shapes = shapes_of(tensors)
    expect_kind("cameractrl", shapes, name, REMEDY)
    frames = shapes.get(ENCODER + FIRST_POSITIONS, (1, 0, 0))
    if len(frames) != 3 or not 1 <= frames[1] <= MOST_FRAMES:
        raise CheckpointError(f"{name} has no pose encoder with positions of 1 to {MOST_FRAMES} frames; {REMEDY}")
    places = transformer_places(config)
    merges = {f"{stored_place(at.place)}{MERGE}": f"merges.{block_name(at.place)}." for at in places}
    sources = {}
    for key in shapes:
        if key.startswith(ENCODER):
            sources[key] = key
        elif ".qkv_merge." in key:
            single = single_file_name(key) or key
            start, _, last = single.rpartition(".")
            sources[merges.get(f"{start}.", f"{single}: ") + last] = key
    widths, levels = {at.place: at.channels for at in places}, {at.place: at.level for at in places}
    more = {} if ops is nn else {"ops": ops}
    network = skeleton(CameraCtrl, widths, levels=levels, frames=frames[1], **more)
    return fill_adapter(network, sources, tensors, name, REMEDY, device=device, dtype=dtype)
