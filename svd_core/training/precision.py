"""What the network computes in while trained weights stay float32."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from .settings import TrainSettings

COMPUTED_IN = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def master_weights(parameters: Iterable[nn.Parameter]) -> None:
    """Turn weights that will be trained into float32 in place; smaller types would swallow small steps."""
    for parameter in parameters:
        if parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def computing(
    unet: nn.Module, settings: TrainSettings, device: torch.device
) -> tuple[torch.dtype, AbstractContextManager]:
    """Return the type of the network's input, and the context that forward passes run in.

    A float32 network computes in half precision by autocast. One whose weights are all stored in half precision
    (adapters on a frozen model) takes half-precision input and needs no autocast. Raises ValueError where the stored
    type and the precision disagree.
    """
    wanted = COMPUTED_IN[settings.precision]
    adapters = {id(part) for name, part in unet.named_parameters() if name.endswith((".down", ".up"))}
    stored = {part.dtype for part in unet.parameters() if id(part) not in adapters}
    if wanted == torch.float32 or torch.float32 in stored:
        half = stored - {torch.float32}
        if wanted == torch.float32 and half and _plain(unet):
            name = str(half.pop()).removeprefix("torch.")
            raise ValueError(
                f"the model is loaded as {name}, which cannot train in precision float32; load it as float32, or use "
                "bf16 or fp16"
            )
        autocast = torch.amp.autocast(device.type, wanted) if wanted != torch.float32 else nullcontext()
        return torch.float32, autocast
    if stored != {wanted} and _plain(unet):
        name = str((stored - {wanted}).pop()).removeprefix("torch.")
        raise ValueError(
            f"the model is loaded as {name}, but precision is {settings.precision}; load it as "
            f"{str(wanted).removeprefix('torch.')} or float32, or change precision"
        )
    return wanted, nullcontext()


def _plain(unet: nn.Module) -> bool:
    """Whether layers are torch's own; a host's layers cast their weights to the type of their input."""
    return all(type(layer).__module__.startswith("torch.") for layer in unet.time_embed)
