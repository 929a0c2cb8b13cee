"""Load the networks that let pose drawings drive a person: MimicMotion's and ControlNeXt-SVD's."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..controls.poses import LoadedPoseNetwork
from ..networks.controlnext import ControlNeXt
from ..networks.mimicmotion import PoseNet
from .adapters import expect_kind, fill_adapter, shapes_of
from .load import read_state_dict
from .skeleton import skeleton
from .source import CheckpointError

PREFIX = "pose_net."  # of the file that holds MimicMotion's UNet too
KINDS = ("mimicmotion", "controlnext")
"""Kinds of file (`family.KINDS`) that hold pose networks."""
REMEDY = (
    "use mimic_motion_pose_net.safetensors or MimicMotion-fp16.safetensors with a MimicMotion UNet, or "
    "controlnext-svd_v2-controlnet-fp16.safetensors with ControlNeXt's UNet"
)


def load_pose_network(
    path: str | PathLike, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, ops=nn
) -> LoadedPoseNetwork:
    """Load a pose network from a safetensors file; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    return pose_network_of(read_state_dict(str(path)), Path(path).name, device=device, dtype=dtype, ops=ops)


def pose_network_of(
    tensors: Mapping[str, Tensor], name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> LoadedPoseNetwork:  # fmt: skip
    """Return the pose network of tensors; those of a UNet in the same file are left out."""
    shapes = shapes_of(tensors)
    kind = expect_kind(KINDS, shapes, name, REMEDY)
    if kind.name == "mimicmotion":
        prefix = PREFIX if any(key.startswith(PREFIX) for key in shapes) else ""
        network, last = PoseNet, "final_proj.weight"
        sources = {key.removeprefix(prefix): key for key in shapes if key.startswith(prefix)}
    else:
        sources, network, last = {key: key for key in shapes}, ControlNeXt, "mid_convs.1.weight"
    width = shapes[sources[last]] if last in sources else ()
    if len(width) != 4:
        raise CheckpointError(f"{name} lacks '{last}', which gives the width of the network; {REMEDY}")
    more = {} if ops is nn else {"ops": ops}
    made = skeleton(network, width[0], **more)
    return LoadedPoseNetwork(
        fill_adapter(made, sources, tensors, name, REMEDY, device=device, dtype=dtype), kind.name, name
    )


def pose_network_kind(path: str | PathLike) -> str:
    """Return the kind of a pose network's file, one of KINDS, from its header; raises CheckpointError for others."""
    return expect_kind(KINDS, read_state_dict(str(path)).shapes, Path(path).name, REMEDY).name
