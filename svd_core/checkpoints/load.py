"""From a path to a model that runs: maps the file, casts tensor by tensor, gives the tensors to the networks."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.model import SVDModel
from ..networks.joined_weights import join_groups
from .diffusers_folder import open_checkpoint
from .remembered import remember, request, shared
from .skeleton import fill, skeleton
from .source import CheckpointError, TensorSource
from .split import NETWORKS, REMEDY, SPOKEN, Parts, complete, split_state_dict

NANO = Path(__file__).parent.parent / "assets" / "nano.safetensors"
log = logging.getLogger("svd_reel")


def read_state_dict(path: str | Path, *, half: bool = False) -> TensorSource:
    """Map a safetensors file, shard index or diffusers folder ("nano" = the embedded model) without reading tensors.

    The result maps stored names to tensors, fetched when asked for, and knows `shapes`, `dtypes`, `metadata`, `name`
    and `size` (bytes). `half` prefers a folder's `.fp16` files. Raises CheckpointError for everything else.
    """
    return open_checkpoint(_located(path), half=half)


def _located(path_or_name: str | Path) -> Path:
    return NANO if str(path_or_name) == "nano" else Path(path_or_name)


def load_model(
    path_or_name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    ops: Any = nn,
    complete_from: str | Path | None = None,
) -> SVDModel:
    """Load an SVD model from a single file, a diffusers folder, or "nano".

    Tensors are mapped from disk and cast one at a time to `dtype` (None = as stored, but 8-bit and mixed networks in
    the widest format they hold); those that fit already are not copied. A file without VAE or image encoder (a
    fine-tuned or distilled UNet) borrows them from `complete_from`; without that they are None in the model. `ops`
    provides the layer classes. Raises CheckpointError, one sentence saying what is wrong with the file and what to do.

    While a model of the same unchanged files, device and dtype is in use, its weights are not read again: both models
    share them. Copy a network before writing to its weights (`copy.deepcopy`, which gives it memory of its own).
    """
    if dtype is not None and not dtype.is_floating_point:
        raise CheckpointError(f"weights cannot be cast to {dtype}; use torch.float32, torch.float16 or torch.bfloat16")
    lender = None if complete_from is None else _located(complete_from)
    # Another namespace's layers are its host's business, its loading too.
    asked = request(_located(path_or_name), device, dtype, lender) if ops is nn else None
    with _without_collections():
        model = shared(asked) if asked else None
        model = model or _load(path_or_name, torch.device(device), dtype, ops, complete_from)
        if asked:
            remember(asked, model)
        return model


@contextmanager
def _without_collections() -> Iterator[None]:
    """Thousands of modules and tensors are made and none is garbage, yet each thousand would start a search for it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(
    path_or_name: str | Path,
    device: torch.device,
    dtype: torch.dtype | None,
    ops: Any,
    complete_from: str | Path | None,
) -> SVDModel:
    parts = _open_parts(path_or_name, dtype)
    if parts.unet is None:
        has = " and ".join(SPOKEN[name] for name in parts.present())
        raise CheckpointError(f"{path_or_name} holds {has or 'nothing'} but no UNet; {REMEDY}")
    if complete_from is not None and _incomplete(parts):
        parts = complete(parts, _open_parts(complete_from, dtype), str(complete_from))
    elif complete_from is not None:
        open_checkpoint(_located(complete_from))  # what is not there was not meant, needed or not
        log.info("%s is complete; %s is not needed", path_or_name, complete_from)
    networks = {name: _build(parts, name, device, dtype, ops) for name in parts.present()}
    if device.type != "cpu":
        join_groups(networks["unet"])
    return SVDModel(networks["unet"], networks.get("vae"), networks.get("image_encoder"), parts.config)


def _open_parts(path: str | Path, dtype: torch.dtype | None) -> Parts:
    return split_state_dict(read_state_dict(path, half=dtype == torch.float16))


def _incomplete(parts: Parts) -> bool:
    vae = parts.config.vae
    return parts.image_encoder is None or vae is None or vae.encoder is None or vae.decoder is None


def _build(parts: Parts, name: str, device: torch.device, dtype: torch.dtype | None, ops: Any) -> nn.Module:
    """The network of that name with its weights."""
    config, part = getattr(parts.config, name), getattr(parts, name)
    tensors = {key: part.fetch(key, device, dtype) for key in part}
    if dtype is None:
        common = _common_dtype({tensor.dtype for tensor in tensors.values()}, device)
        tensors = {key: tensor.to(common) for key, tensor in tensors.items()}
    module = parts.skeletons.pop(name, None)
    if ops is not nn or module is None or module.config != config:  # a completed VAE has more than its file
        module = skeleton(NETWORKS[name], config, ops=ops, dtype=dtype)
        module.load_state_dict(tensors, strict=True, assign=True)
        return module.requires_grad_(False)
    return fill(module, tensors)


def _common_dtype(stored: set[torch.dtype], device: torch.device) -> torch.dtype:
    """The one dtype in which a network stored in possibly several can compute: the widest stored, never 8 bits."""
    wide = [dtype for dtype in stored if dtype.itemsize > 1]
    if not wide:
        return torch.float32 if device.type == "cpu" else torch.float16
    return reduce(torch.promote_types, wide)
