"""What a layer multiplies with and adds, so that a kernel can stand in for the layer's own forward."""

from collections.abc import Callable

from torch import Tensor, nn

Affine = tuple[Tensor | None, Tensor | None]
"""Weight and bias, in the format and place of the input."""

Way = Callable[[nn.Module, type[nn.Module], Tensor], Affine | None]

_ways: list[Way] = []


def also_takes(way: Way) -> None:
    """Register how layers of a host give their weights.

    way: function (layer, kind, x) -> what `layer`, a subclass of torch's `kind`, would compute x with, or None where
    it computes anything else.
    """
    if way not in _ways:
        _ways.append(way)


def weights_of(layer: nn.Module, kind: type[nn.Module], x: Tensor) -> Affine | None:
    """Weight and bias that `layer` would compute x with, or None where it is more than a `kind` of torch's own."""
    if is_plain(layer, kind):
        return layer.weight, layer.bias
    for way in _ways:
        found = way(layer, kind, x)
        if found is not None:
            return found
    return None


def is_plain(layer: nn.Module, kind: type[nn.Module] = nn.Linear) -> bool:
    """Whether calling `layer` does what torch's own `kind` does with its weights, and nothing else."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    return type(layer) is kind and not hooked and "forward" not in vars(layer)
