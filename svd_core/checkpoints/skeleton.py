"""Networks on the meta device, made without drawing initial weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Of torch.nn.init and of tensors: what draws or scales the first weights, and keeps their shape.
_IDLE = {
    "kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "mul", "__mul__",
}  # fmt: skip


class _WithoutNumbers(TorchFunctionMode):
    """Numbers that the meta device would not keep are not computed: the first one there makes torch import its whole
    compiler, which takes longer than mapping a checkpoint.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _IDLE:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if name == "randn" else function)(*args, **kwargs)


def skeleton(network: type[nn.Module], config: Any, **options: Any) -> nn.Module:
    """The network of that configuration on the meta device: its shapes, no memory. `options` go to its constructor."""
    with _WithoutNumbers():
        return network(config, device="meta", **options)


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Give a network these tensors themselves as its weights, by name, without gradients; all of its names are there.

    What `load_state_dict(assign=True)` does, without the checks, which take longer than mapping a checkpoint.
    """
    for path, layer in network.named_modules():
        for key, empty in layer._parameters.items():
            if empty is not None:
                tensor = tensors[f"{path}.{key}" if path else key]
                layer._parameters[key] = nn.Parameter(tensor, requires_grad=False)
    return network
