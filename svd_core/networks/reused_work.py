"""Weights that lie side by side in memory, so that several layers of one input run as one matrix product.

Joining moves weights, never values: every layer keeps its own parameter, a view of the shared memory. Writing into one
changes what the joined product sees, and replacing one ends the joining, so no copy can go stale. Layers of a host or
with hooks always run by themselves.
"""

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels.weights import is_plain

ALIGNMENT = 256
"""Bytes to which groups of weights are aligned; what GPU kernels read fastest."""


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


def rows_are_equal(rows: Tensor) -> bool:
    """Whether a tensor [N, ...] is known to hold N times the same row, without looking at its numbers."""
    return rows.shape[0] == 1 or rows.stride(0) == 0


class EqualRows:
    """An embedding [1, E] and its projections by every layer that takes it, in one matrix product where they are
    joined.

    pairs: (layer, convolution): `layer` projects the embedding, `convolution` is what its result is added behind.
    """

    def __init__(self, main: Tensor, pairs: Sequence[tuple[nn.Module, nn.Module]]):
        self.main = main
        self._biases: dict[int, Tensor] = {}
        layers = [layer for layer, _ in pairs]
        if not all(map(is_plain, layers)) or not all(_takes_bias(convolution) for _, convolution in pairs):
            return
        weight, bias = joined([layer.weight for layer in layers]), joined([layer.bias for layer in layers])
        own = joined([convolution.bias for _, convolution in pairs])
        if weight is None or bias is None or own is None:
            return
        projected = F.linear(main, weight.view(-1, main.shape[1]), bias + own)[0]
        parts = projected.split([layer.out_features for layer in layers])
        self._biases = {id(layer): part for layer, part in zip(layers, parts, strict=True)}

    def bias(self, layer: nn.Module, convolution: nn.Module) -> Tensor | None:
        """Bias [C] with which `convolution` adds the projection by `layer`; None where a host runs the convolution."""
        if id(layer) in self._biases:
            return self._biases[id(layer)]
        return convolution.bias + layer(self.main)[0] if _takes_bias(convolution) else None


def _takes_bias(convolution: nn.Module) -> bool:
    return convolution.bias is not None and (
        is_plain(convolution, nn.Conv2d) or getattr(type(convolution), "plain", False)
    )


def wants_equal_rows(c_noise: Tensor, vector: Tensor) -> bool:
    """Whether the embedding of noise levels [N] and vectors [N, V] has equal rows and no gradient is wanted."""
    return not torch.is_grad_enabled() and rows_are_equal(c_noise) and rows_are_equal(vector)


ENTRIES = 4
"""Results kept per purpose: the two branches of guidance, twice."""


class Kept:
    """Results of a module that do not depend on the step.

    A result is used again only while every tensor it came from is the same memory with the same version, so that
    loading, patching or training weights gives a new one. What is written through `.data` has no version: call
    `forget` after that. Copies and pickles of a module start empty.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, deque] = {}

    def __reduce__(self):
        return (Kept, ())

    def forget(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def get(self, sources: Sequence[Tensor], purpose: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`, or what it gave for the same `purpose` and `sources`. Never kept where gradients are wanted."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return compute()
        if torch.is_inference_mode_enabled() or any(map(torch.is_inference, sources)):
            return compute()
        stamps = [_stamp(source) for source in sources]
        entries = self._entries.setdefault(purpose, deque(maxlen=ENTRIES))
        for known, result in entries:
            if known == stamps:
                return result
        result = compute()
        entries.append((stamps, result))
        return result


def _stamp(tensor: Tensor) -> tuple:
    # A weak reference: while it lives no other tensor can have the same memory, and it keeps nothing alive.
    storage = weakref.ref(tensor.untyped_storage())
    return (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
