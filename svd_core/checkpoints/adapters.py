"""Small networks that are added to an SVD model: which file holds which, and what `convert` keeps of it.

`family` says what kinds of file there are; the module named after a network loads it.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..files import printable
from ..networks.hooks import Place
from .family import AdapterKind, adapter_kind, foreign_kind, wrong_file
from .names import Shape, unet_from_folder
from .source import CheckpointError, TensorSource

UNET = "model.diffusion_model."
RESIDUAL_BLOCKS = 2  # per level, in every SVD UNet
PREFIXES = (UNET, "diffusion_model.", "unet.", "")
# What MotionCtrl trained in the temporal blocks; everything else of its file equals svd.
TRAINED = re.compile(r".+\.time_stack\.0\.(norm2|attn2|cc_projection)\..+")
WITHOUT_VERSION_1 = "ControlNeXt-SVD v1, whose network differs; use the v2 file, controlnext-svd_v2-controlnet"


def kept_tensors(kind: AdapterKind, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Return the tensors of an adapter's file, new name -> stored name: all but what the base model has already.

    A whole MotionCtrl model is reduced to the tensors that were trained, under single-file names.
    """
    if kind.name != "motionctrl":
        return {key: key for key in shapes}
    kept = {}
    for key in shapes:
        name = single_file_name(key)
        if name is not None and TRAINED.fullmatch(name):
            kept[UNET + name] = key
    return kept


def single_file_name(key: str) -> str | None:
    """Return a UNet tensor's name in single-file naming without a prefix, from either layout; None for others."""
    rest = next(key[len(prefix) :] for prefix in PREFIXES if key.startswith(prefix))
    if rest.startswith(("input_blocks.", "middle_block.", "output_blocks.")):
        return rest
    return unet_from_folder(rest, RESIDUAL_BLOCKS, frozenset())


def check_version(kind: AdapterKind, shapes: Mapping[str, Shape], name: str) -> None:
    """Raise CheckpointError for a version of an adapter that nothing here runs."""
    if kind.name == "controlnext" and "scale" in shapes:
        raise CheckpointError(f"{name} is {WITHOUT_VERSION_1}")


def expect_kind(names: str | tuple[str, ...], shapes: Mapping[str, Shape], file: str, remedy: str) -> AdapterKind:
    """Return the kind of the tensors if it is one of these; raises CheckpointError that says what they are instead."""
    kind = adapter_kind(shapes)
    if kind is None or kind.name not in ((names,) if isinstance(names, str) else names) or foreign_kind(shapes):
        raise wrong_file(file, shapes, remedy)
    check_version(kind, shapes, file)
    return kind


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of tensors, from the headers where they come from a file."""
    if isinstance(tensors, TensorSource):
        return tensors.shapes
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def stored_place(place: Place) -> str:
    """Return the name of a block in single-file naming."""
    return "middle_block" if place[0] == "middle" else f"{place[0]}_blocks.{place[1]}"


def fill_adapter(
    network: nn.Module, sources: Mapping[str, str], tensors: Mapping[str, Tensor], file: str, remedy: str,
    *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
) -> nn.Module:  # fmt: skip
    """Return `network`, made on the meta device, with its tensors: module name -> stored name.

    Raises CheckpointError unless names and shapes fit exactly.
    """
    shapes = shapes_of(tensors)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(shapes[stored]) for key, stored in sources.items()}
    if wanted != found:
        wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        shown = [list(shape[wrong[0]]) if wrong[0] in shape else "none" for shape in (found, wanted)]
        raise CheckpointError(
            f"{file}: {len(wrong)} tensors do not fit ({printable(wrong[0])}: {shown[0]} instead of {shown[1]}); "
            f"{remedy}"
        )
    weights = {key: tensors[stored].to(device=device, dtype=dtype) for key, stored in sources.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False)
