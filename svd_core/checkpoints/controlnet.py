"""Load and save SVD ControlNets with diffusers' naming, as the depth and line-art files of CiaraRowles have it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.config import UNetConfig
from ..networks.controlnet import ControlNet
from .adapters import expect_kind, shapes_of
from .detect import read_hints
from .load import read_state_dict
from .names import Shape, unet_from_folder, unet_to_folder
from .sizes import unet_config
from .skeleton import skeleton
from .source import CheckpointError
from .writing import write_tensors

HINT = "controlnet_cond_embedding."
IS_CONTROLNET = f"{HINT}conv_in.weight"
IS_TEMPORAL = "down_blocks.0.resnets.0.temporal_res_block.conv1.weight"
RESIDUAL_BLOCK = re.compile(r"down_blocks\.0\.resnets\.(\d{1,4})\.")
NUMBERS_KEY = "svd.controlnet_numbers"
"""Metadata key: "clip" for a ControlNet that was trained with the motion numbers of its clips."""
OWN_NAMES = ((HINT, "hint."), ("controlnet_down_blocks.", "zero_convs."), ("controlnet_mid_block.", "middle_conv."))
"""How names begin in the file and in the module, where the UNet has no such part."""
NANO = Path(__file__).parent.parent / "assets" / "nano_lineart_controlnet.safetensors"
REMEDY = "use a depth or line-art ControlNet for SVD, such as temporal-controlnet-depth-svd-v1"


@dataclass(frozen=True)
class LoadedControlNet:
    """A ControlNet ready to run, and the name of its file for messages.

    numbers: the motion numbers that it was made for, one of `controls.controlnet.NUMBERS` but "auto".
    """

    network: ControlNet
    name: str
    numbers: str = "official"

    @property
    def config(self) -> UNetConfig:
        """Sizes of the UNet that it belongs to."""
        return self.network.config


def load_controlnet(
    path: str | PathLike, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, ops=nn,
    head_channels: int | None = None,
) -> LoadedControlNet:  # fmt: skip
    """Load an SVD ControlNet from a file, its folder, or "nano"; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    path = local_controlnet(path)
    tensors = read_state_dict(str(path))
    head_channels = head_channels or read_hints(tensors.metadata).head_channels
    name, numbers = path.name, "as the clip" if tensors.metadata.get(NUMBERS_KEY) == "clip" else "official"
    loaded = controlnet_of(tensors, name, device=device, dtype=dtype, ops=ops, head_channels=head_channels)
    return replace(loaded, numbers=numbers)


def local_controlnet(path: str | PathLike) -> Path:
    """Return the path of a ControlNet; "nano" is the embedded line-art one, for the embedded model."""
    return NANO if str(path) == "nano" else Path(path)


def controlnet_of(
    tensors: Mapping[str, Tensor], name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn, head_channels: int | None = None,
) -> LoadedControlNet:  # fmt: skip
    """Return the ControlNet of tensors with diffusers' names."""
    found = [int(match[1]) for key in tensors if (match := RESIDUAL_BLOCK.match(key))]
    blocks = max(found, default=1) + 1
    names = {key: module_name(key, blocks) for key in tensors}
    _refuse_others(names, shapes_of(tensors), name)
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


def save_controlnet(
    network: ControlNet, path: str | PathLike, *, dtype: torch.dtype, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a ControlNet with diffusers' naming; the width of its heads, which shapes do not tell, as metadata."""
    config = network.config
    tensors = {file_name(key, config.num_res_blocks): tensor.to(dtype) for key, tensor in network.state_dict().items()}
    write_tensors(path, tensors, {"svd.head_channels": str(config.head_channels), **(metadata or {})})


def module_name(key: str, blocks: int) -> str | None:
    """Return the module's name of a tensor with diffusers' name; None for one that no ControlNet has.

    blocks: residual blocks per level, 2 in every SVD UNet.
    """
    for start, own in OWN_NAMES:
        if key.startswith(start):
            return own + key[len(start) :]
    return unet_from_folder(key, blocks, frozenset())


def file_name(key: str, blocks: int) -> str:
    """Return diffusers' name of a tensor with the module's name; the inverse of `module_name`."""
    for start, own in OWN_NAMES:
        if key.startswith(own):
            return start + key[len(own) :]
    return unet_to_folder(key, blocks)


def _refuse_others(names: Mapping[str, str | None], shapes: Mapping[str, Shape], name: str) -> None:
    expect_kind("controlnet", shapes, name, REMEDY)
    for key in (IS_CONTROLNET, IS_TEMPORAL):
        if key not in names:
            raise CheckpointError(f"{name} is an incomplete SVD ControlNet ({key} is missing); download it again")
    first = shapes[IS_CONTROLNET]
    if len(first) == 4 and first[1] != 3:
        raise CheckpointError(
            f"{name} is an SVD ControlNet whose control pictures have {first[1]} channels instead of 3, so it needs "
            f"the code of its own project; {REMEDY}"
        )
    strange = sorted(key for key, target in names.items() if target is None)
    if strange:
        raise CheckpointError(f"{name} has {len(strange)} tensors that no SVD ControlNet has ({strange[0]}); {REMEDY}")


def _config(shapes: Mapping[str, tuple[int, ...]], head_channels: int | None) -> UNetConfig:
    """Return the sizes of the UNet that a ControlNet belongs to; its file holds no output layer to measure."""
    first = shapes.get("input_blocks.0.0.weight", (0, 0, 3, 3))
    return unet_config({**shapes, "out.2.weight": (4, first[0], 3, 3)}, head_channels)
