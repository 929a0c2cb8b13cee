"""The order in which a network's pictures lie in memory: channel by channel, or channels last."""

import torch
from torch import nn


@torch.no_grad()
def use_channels_last(network: nn.Module, on: bool = True) -> int:
    """Lay the weights of all convolutions out for channels-last pictures, or back; says how many. Values stay.

    Convolutions hand the layout of their weights on, the norms here keep it, and tokens are then a view of a picture.
    Off by default: PyTorch's own GroupNorm on CUDA copies such pictures back and forth, so it can only gain together
    with the kernels, and what it gains is not yet measured on a GPU.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    weights = [m.weight for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    for weight in weights:
        weight.data = weight.data.contiguous(memory_format=formats[weight.ndim] if on else torch.contiguous_format)
    return len(weights)
