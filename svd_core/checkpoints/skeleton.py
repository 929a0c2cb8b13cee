"""Networks on the meta device, made without drawing initial weights, and filled with tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..networks.layers import TemporalConvolution

# Functions of torch.nn.init and of tensors that draw or scale initial weights and keep their shape.
_SKIPPED = {
    "kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "mul", "__mul__",
}  # fmt: skip


class _WithoutNumbers(TorchFunctionMode):
    """Skips arithmetic on meta tensors: the first operation there makes torch import its whole compiler, which takes
    longer than mapping a checkpoint.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if name == "randn" else function)(*args, **kwargs)


def _blank(layer: type[nn.Module]) -> type[nn.Module]:
    """Return a class that makes layers of the class `layer` without drawing their initial weights."""

    class Blank(layer):
        original = layer

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if type(self) is Blank:  # networks derive classes of their own too
                object.__setattr__(self, "__class__", layer)  # quicker than the module's own

        def reset_parameters(self) -> None:
            pass

    return Blank


class _BlankLayers:
    """The layers of torch.nn that the networks use. Drawing weights takes a quarter of the time of making a network,
    even where the mode above skips the arithmetic; without any, the mode is not needed.
    """

    Linear, Conv2d, GroupNorm, LayerNorm = map(_blank, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm))
    Conv3d = _blank(TemporalConvolution)


def skeleton(network: type[nn.Module], config: Any, *, ops: Any = nn, **options: Any) -> nn.Module:
    """Return the network of that configuration on the meta device.

    ops: the namespace of the layer classes. options: for the network's constructor.
    """
    if ops is nn:
        return network(config, ops=_BlankLayers, device="meta", **options)
    with _WithoutNumbers():
        return network(config, ops=ops, device="meta", **options)


def weights_of(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield every weight of a network: its layer, its name there, and its name in files.

    The names differ where a layer's `file_names` says so for its own weights or those of layers inside it.
    """
    other: dict[str, str] = {}
    ahead = [("", network)]
    while ahead:  # half the time of `named_modules`
        start, layer = ahead.pop()
        for own, theirs in getattr(type(layer), "file_names", {}).items():
            other[start + own] = start + theirs
        for key, weight in layer._parameters.items():
            if weight is not None:
                name = start + key
                yield layer, key, other.get(name, name)
        ahead += [(f"{start}{name}.", inner) for name, inner in reversed(layer._modules.items()) if inner is not None]


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Make these tensors the weights of a network, without gradients and without copies; all of its names are there.

    The same as `load_state_dict(assign=True)` without its checks, which take longer than mapping a checkpoint.
    """
    for layer, key, name in weights_of(network):
        layer._parameters[key] = nn.Parameter(tensors[name], requires_grad=False)
    return network
