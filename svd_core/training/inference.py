"""Weights that were loaded in inference mode, as ComfyUI runs its nodes, refuse gradients; this lends copies."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def leaving_inference(unet: nn.Module, *, keep: bool) -> Iterator[None]:
    """Turn inference mode off and gradients on, with copies in place of the weights that inference mode made.

    keep: leave the copies in place at the end, for training that changes the weights themselves.
    """
    with torch.inference_mode(False), torch.enable_grad():
        lent = [
            (module, name, weight)
            for module in unet.modules()
            for name, weight in module.named_parameters(recurse=False)
            if weight.is_inference()
        ]
        for module, name, weight in lent:
            setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
        try:
            yield
        finally:
            for module, name, weight in lent if not keep else []:
                setattr(module, name, weight)
