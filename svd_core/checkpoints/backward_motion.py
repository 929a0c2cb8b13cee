"""Load the fine-tuned backward motion of Generative Inbetweening, and make its file from the published UNet.

The published weights are a whole UNet, of which only the value and output layers of the temporal self-attention differ
from svd. The file holds these differences, which add to svd_xt as well.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import write_error, write_text
from ..networks.backward_motion import BackwardMotion
from ..networks.config import UNetConfig
from ..networks.motionctrl import block_name
from ..networks.unet import transformer_places
from .adapters import expect_kind, fill_adapter, shapes_of, single_file_name, stored_place
from .licence import licence_of, notice_path, notice_text
from .load import read_state_dict
from .skeleton import skeleton
from .source import CheckpointError
from .writing import write_tensors

PREFIX = "backward_motion."
LAYER = ".1.time_stack.0.attn1."
TUNED = ("to_v.weight", "to_out.0.weight", "to_out.0.bias")
REMEDY = (
    "use backward motion weights, made by `python -m svd_core convert FOLDER OUT.safetensors --backward-motion SVD` "
    "of Generative Inbetweening's unet folder and svd"
)


def load_backward_motion(
    path: str | PathLike, config: UNetConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    ops=nn,
) -> BackwardMotion:  # fmt: skip
    """Load backward motion for a UNet of that configuration; dtype None keeps the stored precision.

    Raises CheckpointError, saying what the file is, for anything else.
    """
    tensors = read_state_dict(str(path))
    return backward_motion_of(tensors, Path(path).name, config, device=device, dtype=dtype, ops=ops)


def backward_motion_of(
    tensors: Mapping[str, Tensor], name: str, config: UNetConfig, *, device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None, ops=nn,
) -> BackwardMotion:  # fmt: skip
    """Return the backward motion of tensors as `motion_differences` makes them."""
    expect_kind("backward_motion", shapes_of(tensors), name, REMEDY)
    widths = {at.place: at.channels for at in transformer_places(config)}
    names = {f"{PREFIX}{stored_place(at)}{LAYER}": f"blocks.{block_name(at)}." for at in widths}
    sources = {}
    for key in shapes_of(tensors):
        start, mark, last = key.partition(LAYER)
        sources[names.get(start + mark, f"{start}{mark}") + last] = key
    network = skeleton(BackwardMotion, widths, **({} if ops is nn else {"ops": ops}))
    return fill_adapter(network, sources, tensors, name, REMEDY, device=device, dtype=dtype)


def save_backward_motion(tuned: str | PathLike, base: str | PathLike, target: str | PathLike) -> Path:
    """Write the backward motion of a fine-tuned UNet (file or folder) as float16, with a notice; return its path.

    base: what it was fine-tuned from, svd. Raises CheckpointError for what cannot be read, compared or written.
    """
    target = Path(target).expanduser()
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target.name} does not name a safetensors file; end it in .safetensors")
    source, other = read_state_dict(str(tuned)), read_state_dict(str(base))
    made = {key: tensor.half() for key, tensor in motion_differences(source, other, source.name).items()}
    changes = [f"made of {source.name}", f"the difference from {other.name} kept"]
    licence = licence_of("backward_motion").sentence
    try:
        write_tensors(target, made, {"svd.licence": licence, "svd.changes": "; ".join(changes), "format": "pt"})
        write_text(notice_path(target), notice_text(target.name, "backward_motion", changes))
    except OSError as error:
        raise CheckpointError(str(write_error(target, error))) from error
    return target


def motion_differences(tuned: Mapping[str, Tensor], base: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return what fine-tuning added to a base UNet, float32 by its name in the file; both in either naming.

    Raises CheckpointError where the two are not UNets of one size, or do not differ there.
    """
    layers, bases = _tuned_layers(tuned), _tuned_layers(base)
    shapes, own = shapes_of(base), shapes_of(tuned)
    if not layers or layers.keys() != bases.keys() or any(own[layers[k]] != shapes[bases[k]] for k in layers):
        raise CheckpointError(f"{name} and its base are not SVD UNets of one size; give the unet folder and svd")
    made = {PREFIX + key: tuned[layers[key]].float() - base[bases[key]].float() for key in layers}
    if not any(bool(tensor.any()) for tensor in made.values()):
        raise CheckpointError(f"{name} equals its base in every layer of its motion; give the model it was tuned from")
    return made


def _tuned_layers(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the stored names of the fine-tuned layers, by their names in single-file naming."""
    found = {}
    for key in shapes_of(tensors):
        name = single_file_name(key) or ""
        if LAYER in name and name.endswith(TUNED):
            found[name] = key
    return found
