"""One global embedding for all frames: its projections become biases of the convolutions that they were added behind.

With one noise level and one motion vector for the clip, the usual case, the embedding has one row. Adding its
projection behind a convolution is then adding a constant per channel, which the convolution's bias does for nothing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reused_work import is_plain, joined


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
