"""Load camera weights of either kind: MotionCtrl-SVD or CameraCtrl-SVD."""

from os import PathLike
from pathlib import Path

import torch
from torch import nn

from ..controls.camera.weights import LoadedCameraWeights
from ..networks.config import UNetConfig
from .adapters import adapter_kind, expect_kind
from .cameractrl import cameractrl_of
from .load import read_state_dict
from .motionctrl import motionctrl_of

REMEDY = "use MotionCtrl-SVD or CameraCtrl-SVD weights, after `python -m svd_core convert`"


def load_camera_weights(
    path: str | PathLike, config: UNetConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> LoadedCameraWeights:  # fmt: skip
    """Load camera weights for a UNet of that configuration; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors, name = read_state_dict(str(path)), Path(path).name
    kind = adapter_kind(tensors.shapes)
    if kind is None or kind.name not in ("motionctrl", "cameractrl"):
        expect_kind("motionctrl", tensors.shapes, name, REMEDY)
    load = motionctrl_of if kind.name == "motionctrl" else cameractrl_of
    return LoadedCameraWeights(load(tensors, name, config, device=device, dtype=dtype, ops=ops), kind.name, name)
