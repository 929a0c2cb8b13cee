"""Load MotionCtrl-SVD: an adapter of `convert`, or the trained tensors of a whole MotionCtrl model."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.config import UNetConfig
from ..networks.motionctrl import MotionCtrl, block_name
from ..networks.unet import transformer_places
from .adapters import UNET, expect_kind, fill_adapter, kept_tensors, shapes_of, stored_place
from .load import read_state_dict
from .skeleton import skeleton
from .source import CheckpointError

REMEDY = "use MotionCtrl-SVD (motionctrl_svd.ckpt after `python -m svd_core convert`) with svd"


def load_motionctrl(
    path: str | PathLike, config: UNetConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> MotionCtrl:  # fmt: skip
    """Load MotionCtrl's camera blocks for a UNet of that configuration; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors = read_state_dict(str(path))
    return motionctrl_of(tensors, Path(path).name, config, device=device, dtype=dtype, ops=ops)


def motionctrl_of(
    tensors: Mapping[str, Tensor], name: str, config: UNetConfig, *, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, ops=nn,
) -> MotionCtrl:  # fmt: skip
    """Return the camera blocks of tensors in either naming, with or without those of the whole model."""
    shapes = shapes_of(tensors)
    kind = expect_kind("motionctrl", shapes, name, REMEDY)
    widths = {at.place: at.channels for at in transformer_places(config)}
    names = {f"{stored_place(place)}.1.time_stack.0.": f"blocks.{block_name(place)}." for place in widths}
    sources = {}
    for stored, key in kept_tensors(kind, shapes).items():
        rest = stored.removeprefix(UNET)
        start = next((start for start in names if rest.startswith(start)), None)
        if start is None:
            raise CheckpointError(f"{name} has '{key}', for which this UNet has no temporal block; {REMEDY}")
        sources[names[start] + rest[len(start) :]] = key
    more = {} if ops is nn else {"ops": ops}
    network = skeleton(
        MotionCtrl, widths, head_channels=config.head_channels, context_channels=config.context_channels, **more
    )
    return fill_adapter(network, sources, tensors, name, REMEDY, device=device, dtype=dtype)
