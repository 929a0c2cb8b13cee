"""Load SVD ControlNets: the depth and line-art files with diffusers' naming (CiaraRowles/temporal-controlnet-*)."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.config import UNetConfig
from ..networks.controlnet import ControlNet
from .load import read_state_dict
from .names import unet_from_folder
from .sizes import unet_config
from .skeleton import skeleton
from .source import CheckpointError

HINT = "controlnet_cond_embedding."
IS_CONTROLNET = f"{HINT}conv_in.weight"
IS_TEMPORAL = "down_blocks.0.resnets.0.temporal_res_block.conv1.weight"
RESIDUAL_BLOCKS = 2  # per level, in every SVD UNet
OTHERS = (
    ("flow_encoder.", "MOFA-Video, whose flow encoder needs code of its own"),
    ("cc_projection.", "MotionCtrl"),
    ("pose_encoder.", "CameraCtrl"),
)
REMEDY = "use a depth or line-art ControlNet for SVD, such as temporal-controlnet-depth-svd-v1"


@dataclass(frozen=True)
class LoadedControlNet:
    """A ControlNet ready to run, and the name of its file for messages."""

    network: ControlNet
    name: str

    @property
    def config(self) -> UNetConfig:
        """Sizes of the UNet that it belongs to."""
        return self.network.config


def load_controlnet(
    path: str | PathLike, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, ops=nn,
    head_channels: int | None = None,
) -> LoadedControlNet:  # fmt: skip
    """Load an SVD ControlNet from a safetensors file or its folder; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors = read_state_dict(str(path))
    return controlnet_of(tensors, Path(path).name, device=device, dtype=dtype, ops=ops, head_channels=head_channels)


def controlnet_of(
    tensors: Mapping[str, Tensor], name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn, head_channels: int | None = None,
) -> LoadedControlNet:  # fmt: skip
    """Return the ControlNet of tensors with diffusers' names."""
    names = {key: module_name(key) for key in tensors}
    _refuse_others(names, name)
    shapes = {target: tuple(tensors[key].shape) for key, target in names.items()}
    config = _config(shapes, head_channels)
    network = skeleton(ControlNet, config) if ops is nn else ControlNet(config, ops=ops, device="meta")
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if wanted != shapes:
        wrong = sorted(key for key in wanted.keys() | shapes.keys() if wanted.get(key) != shapes.get(key))
        raise CheckpointError(f"{name}: {len(wrong)} tensors do not fit an SVD ControlNet ({wrong[0]}); {REMEDY}")
    weights = {target: tensors[key].to(device=device, dtype=dtype) for key, target in names.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    network.requires_grad_(False)
    return LoadedControlNet(network, name)


def module_name(key: str) -> str | None:
    """Return the module's name of a tensor with diffusers' name; None for one that no ControlNet has."""
    if key.startswith(HINT):
        return f"hint.{key[len(HINT) :]}"
    if key.startswith("controlnet_down_blocks."):
        return f"zero_convs.{key[len('controlnet_down_blocks.') :]}"
    if key.startswith("controlnet_mid_block."):
        return f"middle_conv.{key[len('controlnet_mid_block.') :]}"
    return unet_from_folder(key, RESIDUAL_BLOCKS, frozenset())


def _refuse_others(names: Mapping[str, str | None], name: str) -> None:
    for start, what in OTHERS:
        if any(start in key for key in names):
            raise CheckpointError(f"{name} is {what}; {REMEDY}")
    if IS_CONTROLNET not in names:
        raise CheckpointError(f"{name} is no SVD ControlNet ({IS_CONTROLNET} is missing); {REMEDY}")
    if IS_TEMPORAL not in names:
        raise CheckpointError(f"{name} is a ControlNet for Stable Diffusion images, without temporal layers; {REMEDY}")
    strange = sorted(key for key, target in names.items() if target is None)
    if strange:
        raise CheckpointError(f"{name} has {len(strange)} tensors that no SVD ControlNet has ({strange[0]}); {REMEDY}")


def _config(shapes: Mapping[str, tuple[int, ...]], head_channels: int | None) -> UNetConfig:
    """Return the sizes of the UNet that a ControlNet belongs to; its file holds no output layer to measure."""
    first = shapes.get("input_blocks.0.0.weight", (0, 0, 3, 3))
    return unet_config({**shapes, "out.2.weight": (4, first[0], 3, 3)}, head_channels)
