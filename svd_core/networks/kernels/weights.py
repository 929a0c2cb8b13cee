"""Read the weight and bias of a layer, so that a kernel can replace the layer's own forward."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import Tensor, nn

Affine = tuple[Tensor | None, Tensor | None]
"""Weight and bias in the dtype and on the device of the input."""

WeightReader = Callable[[nn.Module, type[nn.Module], Tensor], AbstractContextManager[Affine] | None]

_readers: list[WeightReader] = []


def register_weight_reader(reader: WeightReader) -> None:
    """Register a function that reads the weights of a host's layers.

    reader: function (layer, kind, x). It returns a context in which the weight and bias are valid that `layer`, a
    subclass of torch's `kind`, would apply to x, or None if the layer computes anything else. Hosts that stream weights
    release them at the end of the context.
    """
    if reader not in _readers:
        _readers.append(reader)


@contextmanager
def weights_of(layer: nn.Module, kind: type[nn.Module], x: Tensor) -> Iterator[Affine | None]:
    """Give the weight and bias that `layer` would apply to x, or None if it does more than torch's own `kind`.

    They are valid inside the `with` block only; all work that reads them must be queued there.
    """
    if is_plain(layer, kind):
        yield layer.weight, layer.bias
        return
    for reader in _readers:
        found = reader(layer, kind, x)
        if found is not None:
            with found as affine:
                yield affine
            return
    yield None


def is_plain(layer: nn.Module, kind: type[nn.Module] = nn.Linear) -> bool:
    """Return whether calling `layer` does exactly what torch's own `kind` does: same class, no hooks, no overrides."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    return type(layer) is kind and not hooked and "forward" not in vars(layer)
