"""Weights that lie side by side in memory, so that several layers of one input run as one matrix product.

Joining moves weights, never values: every layer keeps its own parameter, a view of the shared memory. Writing into one
changes what the joined product sees, and replacing one ends the joining, so no copy can go stale. Layers of a host or
with hooks always run by themselves.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

ALIGNMENT = 256
"""Bytes to which groups of weights are aligned; what GPU kernels read fastest."""


def is_plain(layer: nn.Module, kind: type[nn.Module] = nn.Linear) -> bool:
    """Whether calling `layer` does what torch's own `kind` does with its weights, and nothing else."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    return type(layer) is kind and not hooked and "forward" not in vars(layer)


def joined(parameters: Sequence[Tensor]) -> Tensor | None:
    """The parameters as one flat view if they lie one behind the other in memory, else None. No gradients pass it."""
    first = parameters[0]
    storage, offset = first.untyped_storage()._cdata, first.storage_offset()
    for parameter in parameters:
        if (
            parameter.storage_offset() != offset
            or parameter.untyped_storage()._cdata != storage
            or parameter.dtype != first.dtype
            or not parameter.is_contiguous()
        ):
            return None
        offset += parameter.numel()
    return first.detach().as_strided((offset - first.storage_offset(),), (1,))


@torch.no_grad()
def join(parameters: Sequence[nn.Parameter]) -> None:
    """Move parameters of one dtype and device into one piece of memory, in this order."""
    if joined(parameters) is not None:
        return
    flat = torch.empty(sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, place in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        place.copy_(parameter.reshape(-1))
        parameter.data = place.view(parameter.shape)


def join_groups(network: nn.Module) -> None:
    """Join what a network names in `joinable()`: lists of parameters that may share memory. Others stay as they are."""
    for group in network.joinable():
        if len({(p.dtype, p.device) for p in group}) == 1:
            join(group)


def packed_order(parameters: Iterable[nn.Parameter], groups: Iterable[Sequence[nn.Parameter]]) -> list[nn.Parameter]:
    """The parameters in an order in which those of each group are neighbours."""
    members = {id(p): group for group in groups for p in group}
    done, order = set(), []
    for parameter in parameters:
        for member in members.get(id(parameter), (parameter,)):
            if id(member) not in done:
                done.add(id(member))
                order.append(member)
    return order
