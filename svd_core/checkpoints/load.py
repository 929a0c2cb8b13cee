"""Load models: map the file, cast tensor by tensor, and give the tensors to the networks."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.devices import AUTO, default_dtype, parse_dtype, pick_device
from ..model.model import SVDModel
from ..networks.joined_weights import join_groups
from .diffusers_folder import open_checkpoint
from .skeleton import fill, skeleton
from .source import CheckpointError, TensorSource
from .split import NETWORKS, Parts, complete, no_unet, split_state_dict

NANO = Path(__file__).parent.parent / "assets" / "nano.safetensors"
log = logging.getLogger("svd_reel")


def load_model(
    path_or_name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = torch.float32,
    ops: Any = nn,
    complete_from: str | Path | None = None,
) -> SVDModel:
    """Load an SVD model from a single file, a folder, or "nano".

    device: "cpu", "cuda", "cuda:1", "mps", "xpu", or "auto" for the fastest available. dtype: also by name, such as
    "float16", "stored", or "auto" for float16 where the device computes it fast and exactly enough, else float32.

    Tensors are mapped from disk and cast one at a time to `dtype`; those that are stored that way already are not
    copied. dtype None keeps what is stored; a network stored in 8 bits or in several types gets the widest of them.
    A file without VAE or image encoder (a fine-tuned or distilled UNet) takes them from the checkpoint
    `complete_from`; without that they are None in the model. ops: the namespace of the layer classes. Raises
    CheckpointError, one sentence on what is wrong with the file and what to do.
    """
    device = pick_device(device)
    dtype = parse_dtype(default_dtype(device) if dtype == AUTO else dtype)
    if dtype is not None and not dtype.is_floating_point:
        raise CheckpointError(f"weights cannot be cast to {dtype}; use torch.float32, torch.float16 or torch.bfloat16")
    with _garbage_collection_off():
        parts = _open_parts(path_or_name, dtype)
        if parts.unet is None:
            raise CheckpointError(no_unet(str(path_or_name), parts))
        if complete_from is not None and _is_incomplete(parts):
            parts = complete(parts, _open_parts(complete_from, dtype), str(complete_from))
        elif complete_from is not None:
            open_checkpoint(_located(complete_from))  # a wrong path is an error even where the file is not needed
            log.info("%s is complete; %s is not needed", path_or_name, complete_from)
        networks = {name: _build(parts, name, device, dtype, ops) for name in parts.present()}
        if device.type != "cpu":
            join_groups(networks["unet"])
    return SVDModel(networks["unet"], networks.get("vae"), networks.get("image_encoder"), parts.config)


def read_state_dict(path: str | Path, *, half: bool = False) -> TensorSource:
    """Map a safetensors file, an index of shards or a folder ("nano" = the embedded model) without reading tensors.

    The result maps stored names to tensors, which are fetched when asked for, and has `shapes`, `dtypes`, `metadata`,
    `name` and `size` (bytes). half: prefer a folder's `.fp16` files. Raises CheckpointError for everything else.
    """
    return open_checkpoint(_located(path), half=half)


def _located(path_or_name: str | Path) -> Path:
    return NANO if str(path_or_name) == "nano" else Path(path_or_name)


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Switch garbage collection off: it would search after every thousand new tensors and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _open_parts(path: str | Path, dtype: torch.dtype | None) -> Parts:
    return split_state_dict(read_state_dict(path, half=dtype == torch.float16))


def _is_incomplete(parts: Parts) -> bool:
    vae = parts.config.vae
    return parts.image_encoder is None or vae is None or vae.encoder is None or vae.decoder is None


def _build(parts: Parts, name: str, device: torch.device, dtype: torch.dtype | None, ops: Any) -> nn.Module:
    """Return the network of that name with its weights."""
    config, part = getattr(parts.config, name), getattr(parts, name)
    tensors = {key: part.fetch(key, device, dtype) for key in part}
    if dtype is None:
        common = _common_dtype({tensor.dtype for tensor in tensors.values()}, device)
        tensors = {key: tensor.to(common) for key, tensor in tensors.items()}
    module = parts.skeletons.pop(name, None)
    if ops is not nn or module is None or module.config != config:  # a completed VAE has more than its own file
        module = skeleton(NETWORKS[name], config, ops=ops, dtype=dtype)
        module.load_state_dict(tensors, strict=True, assign=True)
        return module.requires_grad_(False)
    return fill(module, tensors)


def _common_dtype(stored: set[torch.dtype], device: torch.device) -> torch.dtype:
    """Return the one type in which a network stored in several can compute: the widest, never 8 bits."""
    wide = [dtype for dtype in stored if dtype.itemsize > 1]
    if not wide:
        return torch.float32 if device.type == "cpu" else torch.float16
    return reduce(torch.promote_types, wide)
