"""A UNet in training: float32 weights, the precision it computes in, no inference mode, recomputed blocks."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..networks.joined_weights import join_weights, joined_view
from ..networks.transformer import VideoTransformer
from ..networks.unet import VideoResidualBlock
from .settings import TrainSettings

BLOCKS = (VideoResidualBlock, VideoTransformer)  # recomputed in the backward pass by gradient checkpointing
COMPUTED_IN = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

BF16_CAPABILITY = (8, 0)
"""The oldest NVIDIA cards that compute in bf16; on older ones its attention falls back to a kernel that stores scores.
"""


def default_precision(device: torch.device) -> str:
    """Return the precision in which to train on a device, a key of COMPUTED_IN."""
    if device.type == "cuda":
        old = torch.version.hip is None and torch.cuda.get_device_capability(device) < BF16_CAPABILITY
        return "fp16" if old else "bf16"
    return "bf16" if device.type == "xpu" else "float32"


def master_weights(unet: nn.Module, names: Collection[str]) -> dict[str, nn.Parameter]:
    """Give the named weights float32 memory of their own, and return them by name.

    Smaller types would round small steps away, and other models may share the memory that was loaded.
    """
    groups = [group for group in unet.joinable() if joined_view(group) is not None]
    trained = {name: parameter for name, parameter in unet.named_parameters() if name in names}
    for parameter in trained.values():
        parameter.data = parameter.data.to(torch.float32, copy=True)
    for group in groups:
        if len({parameter.dtype for parameter in group}) == 1:
            join_weights(group)
    return trained


def computing(
    unet: nn.Module, settings: TrainSettings, device: torch.device
) -> tuple[torch.dtype, AbstractContextManager]:
    """Return the type of the network's input and the context for forward passes.

    A float32 network computes in half precision by autocast. A network stored in half precision (adapters on a frozen
    model) takes half-precision input and needs no autocast. Raises ValueError where the stored type does not fit the
    precision.
    """
    wanted = COMPUTED_IN[settings.precision]
    adapters = {id(part) for name, part in unet.named_parameters() if name.endswith((".down", ".up"))}
    stored = {part.dtype for part in unet.parameters() if id(part) not in adapters}
    if wanted == torch.float32 or torch.float32 in stored:
        half = stored - {torch.float32}
        if wanted == torch.float32 and half and _plain(unet):
            name = str(half.pop()).removeprefix("torch.")
            raise ValueError(
                f"precision float32 needs a float32 model (it is loaded as {name}); load it as float32, or use "
                "precision bf16 or fp16"
            )
        autocast = torch.amp.autocast(device.type, wanted) if wanted != torch.float32 else nullcontext()
        return torch.float32, autocast
    if stored != {wanted} and _plain(unet):
        name = str((stored - {wanted}).pop()).removeprefix("torch.")
        raise ValueError(
            f"precision {settings.precision} does not fit a model loaded as {name}; load it as "
            f"{str(wanted).removeprefix('torch.')} or float32, or change the precision"
        )
    return wanted, nullcontext()


def _plain(unet: nn.Module) -> bool:
    """Return whether the layers are torch's own; a host's layers cast their weights to the type of their input."""
    return all(type(layer).__module__.startswith("torch.") for layer in unet.time_embed)


@contextmanager
def leaving_inference(unet: nn.Module, *, keep: bool) -> Iterator[None]:
    """Turn inference mode off and gradients on, and replace weights made in inference mode by copies.

    keep: leave the copies in place at the end, for training that changes the weights themselves.
    """
    with torch.inference_mode(False), torch.enable_grad():
        replaced = [
            (module, name, weight)
            for module in unet.modules()
            for name, weight in module.named_parameters(recurse=False)
            if weight.is_inference()
        ]
        for module, name, weight in replaced:
            setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
        try:
            yield
        finally:
            for module, name, weight in replaced if not keep else []:
                setattr(module, name, weight)


@contextmanager
def recomputed_blocks(unet: nn.Module) -> Iterator[None]:
    """Checkpoint every residual and transformer block while the `with` block lasts."""
    blocks = [layer for layer in unet.modules() if isinstance(layer, BLOCKS)]
    for block in blocks:
        # On the instance: the class, its name and its parameters stay what the rest of the code expects.
        block.forward = partial(_recompute, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _recompute(function, *inputs):
    # The blocks draw no random numbers, so there is no generator state to keep.
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
