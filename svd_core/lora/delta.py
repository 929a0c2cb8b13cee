"""What a LoRA adds to a parameter: low rank, convolutions (LoCon), magnitudes (DoRA), and whole differences.

Every sum is taken in float32 over the parameter as it was loaded and rounded once. The order of several LoRAs then
does not matter beyond rounding, and no LoRA ever has to be subtracted again.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LoraError(ValueError):
    """A LoRA that cannot be used or saved; the message says why, with numbers, and what to do."""


class LoraLayer(NamedTuple):
    """What is added to one parameter; a tuple, so that a host can move the tensors to its device and back.

    down: [r, in] or [r, in, *kernel]. up: [out, r] or [out, r, 1, 1...]. scale: alpha / r, or alpha / sqrt(r) for
    rank-stabilised files. mid: [r, r, *kernel] of a Tucker decomposition; down then has no kernel. magnitude: of DoRA,
    one number for each output, or for each input with `by_input`. whole: a difference in the shape of the parameter,
    as ComfyUI saves for norms and biases; down and up are then None.
    """

    down: Tensor | None
    up: Tensor | None
    scale: float
    mid: Tensor | None = None
    magnitude: Tensor | None = None
    by_input: bool = False
    whole: Tensor | None = None

    @property
    def rank(self) -> int:
        """The number of directions that the layer adds; 0 for a whole difference."""
        return 0 if self.down is None else self.down.shape[0]


Term = tuple[LoraLayer, float]
"""A layer and the strength with which it is added."""


def problem(layer: LoraLayer, shape: Sequence[int]) -> str | None:
    """Return why a layer cannot be added to a parameter of this shape, or None."""
    if layer.whole is not None:
        found = list(layer.whole.shape)
        return None if found == list(shape) else f"a difference of {found} for a parameter of {list(shape)}"
    if layer.up.ndim < 2 or layer.down.ndim < 2 or layer.up[0].numel() != layer.rank:
        return f"up {list(layer.up.shape)} and down {list(layer.down.shape)} do not multiply"
    if len(shape) < 2:
        return f"a product of matrices for a parameter of {list(shape)}"
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


def merged(parameter: Tensor, terms: Iterable[Term]) -> Tensor:
    """Return parameter + sum of strength * difference, in float32 on its device; the parameter stays as it is."""
    base = parameter.to(torch.float32)
    result = base.clone() if base is parameter else base
    for layer, strength in terms:
        # Each over the parameter as loaded: DoRA is not additive, and so its place in the list does not matter.
        result = result + strength * difference(layer, base)
    return result


def difference(layer: LoraLayer, weight: Tensor) -> Tensor:
    """Return what full strength adds to `weight` (float32).

    With magnitudes m the new weight is m * V / |V| with V = weight + low rank (DoRA, Liu et al. 2024, equation 5). The
    norm is that of V, for each output over everything else, as in the paper and in PEFT, or for each input.
    """
    if layer.whole is not None:
        return layer.scale * layer.whole.to(weight)
    update = low_rank(layer, weight)
    if layer.magnitude is None:
        return update
    changed = weight + update
    axis = 1 if layer.by_input else 0
    others = [dim for dim in range(weight.ndim) if dim != axis]
    norm = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    magnitude = layer.magnitude.to(changed).reshape(norm.shape)
    # A row of zeros has no direction that could be given a length.
    return changed * (magnitude / norm.clamp_min(torch.finfo(torch.float32).tiny)) - weight


def low_rank(layer: LoraLayer, weight: Tensor) -> Tensor:
    """Return scale * up @ down in the shape of `weight`, float32 on its device; convolutions multiply as matrices."""
    down, up = (part.to(weight.device, torch.float32) for part in (layer.down, layer.up))
    if layer.mid is not None:
        mid = layer.mid.to(down)
        product = torch.einsum("op,pq...,qi->oi...", up.flatten(1), mid, down.flatten(1))
    else:
        product = up.flatten(1) @ down.flatten(1)
    return layer.scale * product.reshape(weight.shape)


def kept_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the type for a merged parameter: its own, except for 8 bits, whose steps are larger than most LoRAs."""
    return torch.float16 if stored.itemsize == 1 else stored
