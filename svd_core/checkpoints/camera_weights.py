"""Load camera weights: MotionCtrl-SVD (an adapter of `convert`, or a whole model) and CameraCtrl-SVD."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..controls.camera.weights import LoadedCameraWeights
from ..networks.cameractrl import CameraCtrl
from ..networks.config import UNetConfig
from ..networks.motionctrl import MotionCtrl, block_name
from ..networks.unet import transformer_places
from .adapters import (
    UNET,
    expect_kind,
    fill_adapter,
    kept_tensors,
    shapes_of,
    single_file_name,
    stored_place,
)
from .load import read_state_dict
from .skeleton import skeleton
from .source import CheckpointError

ENCODER, FIRST_POSITIONS = "pose_encoder.", "encoder_down_attention_blocks.0.0.attention_blocks.0.pos_encoder.pe"
MERGE = ".1.time_stack.0.attn1.processor.qkv_merge."
MOST_FRAMES = 1024
KINDS = ("motionctrl", "cameractrl")
"""Kinds of file (`family.KINDS`) that hold camera weights."""
REMEDY = "use MotionCtrl-SVD or CameraCtrl-SVD weights, after `python -m svd_core convert`"
MOTIONCTRL_REMEDY = "use MotionCtrl-SVD (motionctrl_svd.ckpt after `python -m svd_core convert`) with svd"
CAMERACTRL_REMEDY = (
    "use CameraCtrl-SVD (CameraCtrl_svd.ckpt for svd or CameraCtrl_svdxt.ckpt for svd_xt, after "
    "`python -m svd_core convert`)"
)


def load_camera_weights(
    path: str | PathLike, config: UNetConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> LoadedCameraWeights:  # fmt: skip
    """Load camera weights for a UNet of that configuration; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors, name = read_state_dict(str(path)), Path(path).name
    kind = expect_kind(KINDS, tensors.shapes, name, REMEDY)
    load = motionctrl_of if kind.name == "motionctrl" else cameractrl_of
    return LoadedCameraWeights(load(tensors, name, config, device=device, dtype=dtype, ops=ops), kind.name, name)


def motionctrl_of(
    tensors: Mapping[str, Tensor], name: str, config: UNetConfig, *, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, ops=nn,
) -> MotionCtrl:  # fmt: skip
    """Return the camera blocks of tensors in either naming, with or without those of the whole model."""
    shapes = shapes_of(tensors)
    kind = expect_kind("motionctrl", shapes, name, MOTIONCTRL_REMEDY)
    widths = {at.place: at.channels for at in transformer_places(config)}
    names = {f"{stored_place(place)}.1.time_stack.0.": f"blocks.{block_name(place)}." for place in widths}
    sources = {}
    for stored, key in kept_tensors(kind, shapes).items():
        rest = stored.removeprefix(UNET)
        start = next((start for start in names if rest.startswith(start)), None)
        if start is None:
            raise CheckpointError(f"{name} has '{key}', for which this UNet has no temporal block; {MOTIONCTRL_REMEDY}")
        sources[names[start] + rest[len(start) :]] = key
    more = {} if ops is nn else {"ops": ops}
    network = skeleton(
        MotionCtrl, widths, head_channels=config.head_channels, context_channels=config.context_channels, **more
    )
    return fill_adapter(network, sources, tensors, name, MOTIONCTRL_REMEDY, device=device, dtype=dtype)


def cameractrl_of(
    tensors: Mapping[str, Tensor], name: str, config: UNetConfig, *, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, ops=nn,
) -> CameraCtrl:  # fmt: skip
    """Return CameraCtrl of tensors with the prefixes `pose_encoder.` and `unet.`; the rest of the UNet is left out."""
    shapes = shapes_of(tensors)
    expect_kind("cameractrl", shapes, name, CAMERACTRL_REMEDY)
    frames = shapes.get(ENCODER + FIRST_POSITIONS, (1, 0, 0))
    if len(frames) != 3 or not 1 <= frames[1] <= MOST_FRAMES:
        raise CheckpointError(
            f"{name} has no pose encoder with positions of 1 to {MOST_FRAMES} frames; {CAMERACTRL_REMEDY}"
        )
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
    return fill_adapter(network, sources, tensors, name, CAMERACTRL_REMEDY, device=device, dtype=dtype)
