"""What a LoRA adds to a weight: low rank, convolutions (LoCon), magnitudes (DoRA). Knows tensors, no names or files.

Every sum is taken in float32 over the weight as it was loaded and rounded once, so that the order of several LoRAs
does not matter beyond rounding, and none of them has to be subtracted again.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LoraLayer(NamedTuple):
    """The tensors of one adapted layer; a tuple, so that a host can move them to its device and put them back.

    down: [r, in] or [r, in, *kernel]. up: [out, r] or [out, r, 1, 1...]. scale: alpha / r, or alpha / sqrt(r) where
    the file says so. mid: [r, r, *kernel] of a Tucker decomposition, down then has no kernel. magnitude: DoRA's, one
    number per output, or per input where `by_input`.
    """

    down: Tensor
    up: Tensor
    scale: float
    mid: Tensor | None = None
    magnitude: Tensor | None = None
    by_input: bool = False

    @property
    def rank(self) -> int:
        """The number of directions that the layer adds."""
        return self.down.shape[0]


Term = tuple[LoraLayer, float]
"""A layer and the strength with which it is added."""


def problem(layer: LoraLayer, shape: Sequence[int]) -> str | None:
    """Why a layer cannot be added to a weight of this shape, or None."""
    if layer.up.ndim < 2 or layer.down.ndim < 2 or layer.up[0].numel() != layer.rank:
        return f"up {list(layer.up.shape)} and down {list(layer.down.shape)} do not multiply"
    kernel = 1 if layer.mid is None else math.prod(layer.mid.shape[2:])
    if layer.mid is not None and tuple(layer.mid.shape[:2]) != (layer.rank, layer.rank):
        return f"mid {list(layer.mid.shape)} does not fit rank {layer.rank}"
    sizes = [layer.up.shape[0], layer.down[0].numel() * kernel]
    if sizes != [shape[0], math.prod(shape[1:])] or layer.down.shape[1] not in (shape[1], sizes[1]):
        return f"{sizes[0]}x{sizes[1]} numbers for a layer of {shape[0]}x{math.prod(shape[1:])}"
    axis = 1 if layer.by_input else 0
    if layer.magnitude is not None and layer.magnitude.numel() != shape[axis]:
        return f"{layer.magnitude.numel()} magnitudes for {shape[axis]} {'inputs' if axis else 'outputs'}"
    return None


def low_rank(layer: LoraLayer, weight: Tensor) -> Tensor:
    """scale * up @ down in the shape of `weight`, float32 on its device; convolutions multiply as matrices."""
    down, up = (part.to(weight.device, torch.float32) for part in (layer.down, layer.up))
    if layer.mid is not None:
        mid = layer.mid.to(down)
        product = torch.einsum("op,pq...,qi->oi...", up.flatten(1), mid, down.flatten(1))
    else:
        product = up.flatten(1) @ down.flatten(1)
    return layer.scale * product.reshape(weight.shape)


def difference(layer: LoraLayer, weight: Tensor) -> Tensor:
    """What full strength adds to `weight` (float32).

    With magnitudes m the new weight is m * V / |V| with V = weight + low rank (DoRA, Liu et al. 2024, equation 5). The
    norm is that of V, per output over everything else, as in the paper and in PEFT; per input where the file says so.
    """
    update = low_rank(layer, weight)
    if layer.magnitude is None:
        return update
    whole = weight + update
    axis = 1 if layer.by_input else 0
    others = [dim for dim in range(weight.ndim) if dim != axis]
    norm = torch.linalg.vector_norm(whole, dim=others, keepdim=True)
    magnitude = layer.magnitude.to(whole).reshape(norm.shape)
    # A row of zeros has no direction to give a length to.
    return whole * (magnitude / norm.clamp_min(torch.finfo(torch.float32).tiny)) - weight


def merged(weight: Tensor, terms: Iterable[Term]) -> Tensor:
    """weight + sum of strength * difference, float32 on the weight's device. `weight` of any float format is kept."""
    base = weight.to(torch.float32)
    result = base.clone() if base is weight else base
    for layer, strength in terms:
        # Each against the weight as loaded: DoRA is not additive, and so its place in the list does not matter.
        result = result + strength * difference(layer, base)
    return result


def kept_dtype(weight: torch.dtype) -> torch.dtype:
    """The format to keep a merged weight in: the weight's own, except 8 bits, whose steps would swallow a LoRA."""
    return torch.float16 if weight.itemsize == 1 else weight


class LoraError(ValueError):
    """A LoRA that cannot be used or saved; the message says why, with numbers, and what to do."""
