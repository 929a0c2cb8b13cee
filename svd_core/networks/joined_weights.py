"""Weights placed next to each other in memory, so that layers with the same input run as one matrix product.

Joining moves weights and never changes their values. Every layer keeps its own parameter, a view of the shared memory,
so writing to a parameter changes what the joined product reads. Replacing a parameter ends the joining, so no stale
copy can exist. Layers with hooks, and layers of a host, always run separately.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

ALIGNMENT = 256
"""Bytes to which groups of weights are aligned; GPU kernels read aligned weights fastest."""


def joined_view(parameters: Sequence[Tensor]) -> Tensor | None:
    """Return the parameters as one flat view, or None if they are not adjacent in memory in this order.

    All parameters must share a storage and a dtype. The view carries no gradient.
    """
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
def join_weights(parameters: Sequence[nn.Parameter]) -> None:
    """Move parameters of one dtype and device into one block of memory, in this order."""
    if joined_view(parameters) is not None:
        return
    sizes = [parameter.numel() for parameter in parameters]
    flat = torch.empty(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, target in zip(parameters, flat.split(sizes), strict=True):
        target.copy_(parameter.reshape(-1))
        parameter.data = target.view(parameter.shape)


def join_groups(network: nn.Module) -> None:
    """Join every group of parameters that `network.joinable()` lists.

    A group whose parameters differ in dtype or device stays as it is.
    """
    for group in network.joinable():
        if len({(p.dtype, p.device) for p in group}) == 1:
            join_weights(group)


def packed_order(parameters: Iterable[nn.Parameter], groups: Iterable[Sequence[nn.Parameter]]) -> list[nn.Parameter]:
    """Return the parameters in an order that keeps the members of each group next to each other."""
    members = {id(p): group for group in groups for p in group}
    done, order = set(), []
    for parameter in parameters:
        for member in members.get(id(parameter), (parameter,)):
            if id(member) not in done:
                done.add(id(member))
                order.append(member)
    return order
