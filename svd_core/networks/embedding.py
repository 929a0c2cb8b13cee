"""The global embedding of noise level and motion numbers, in the three forms that residual blocks accept.

- A tensor [N, E] has one row per frame.
- A `SharedEmbedding` is one row for all frames. All layers project it in a single matrix product, and each projection
  becomes a bias of the convolution before it.
- A `RegionalEmbedding` blends two embeddings by a map over the picture. It costs one more small projection and one
  multiply-add per block.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .joined_weights import joined_view
from .kernels.weights import is_plain
from .layers import accumulate, convolve_clip


def is_broadcast(rows: Tensor) -> bool:
    """Return whether [N, ...] is one row repeated N times by its strides; the values are not compared."""
    return rows.shape[0] == 1 or rows.stride(0) == 0


def can_share_row(c_noise: Tensor, vector: Tensor) -> bool:
    """Return whether noise levels [N] and vectors [N, V] are single rows, and no gradient is needed."""
    return not torch.is_grad_enabled() and is_broadcast(c_noise) and is_broadcast(vector)


class SharedEmbedding:
    """One embedding [1, E] for all frames, with its projections by every layer that uses it.

    pairs: (layer, convolution). `layer` projects the embedding, and the result is added to the output of `convolution`.
    Where the weights of all layers are joined, one matrix product computes all projections.
    """

    def __init__(self, main: Tensor, pairs: Sequence[tuple[nn.Module, nn.Module]]):
        self.main = main
        self._biases: dict[int, Tensor] = {}
        layers = [layer for layer, _ in pairs]
        if not all(map(is_plain, layers)) or not all(_accepts_bias(convolution) for _, convolution in pairs):
            return
        weight, bias = joined_view([layer.weight for layer in layers]), joined_view([layer.bias for layer in layers])
        own = joined_view([convolution.bias for _, convolution in pairs])
        if weight is None or bias is None or own is None:
            return
        projected = F.linear(main, weight.view(-1, main.shape[1]), bias + own)[0]
        parts = projected.split([layer.out_features for layer in layers])
        self._biases = {id(layer): part for layer, part in zip(layers, parts, strict=True)}

    def bias(self, layer: nn.Module, convolution: nn.Module) -> Tensor | None:
        """Return the bias [C] of `convolution` plus the projection by `layer`.

        Returns None where a host runs the convolution itself, so its bias cannot be replaced.
        """
        if id(layer) in self._biases:
            return self._biases[id(layer)]
        return convolution.bias + layer(self.main)[0] if _accepts_bias(convolution) else None


def _accepts_bias(convolution: nn.Module) -> bool:
    return convolution.bias is not None and (
        is_plain(convolution, nn.Conv2d) or getattr(type(convolution), "plain", False)
    )


class RegionalEmbedding:
    """Two embeddings [N, E], blended by `share` [N, 1, h, w] in 0..1: 0 is `main`, 1 is `other`."""

    def __init__(self, main: Tensor, other: Tensor, share: Tensor) -> None:
        self.main, self.other = main, other
        self._finest = share.to(main)
        self._shares = {tuple(share.shape[-2:]): self._finest}

    def share(self, size: tuple[int, int]) -> Tensor:
        """Return the share averaged to another (height, width): [N, 1, *size]."""
        if size not in self._shares:
            self._shares[size] = F.interpolate(self._finest, size, mode="area")
        return self._shares[size]

    def add_to(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Return x [N, C, H, W] plus the blended projections by `layer`. Writes into x; see `add_embedding`."""
        main, other = (layer(embedding)[:, :, None, None] for embedding in (self.main, self.other))  # [N, C, 1, 1]
        return accumulate(accumulate(x, main), other - main, self.share(tuple(x.shape[-2:])))


Embedding = Tensor | SharedEmbedding | RegionalEmbedding


def add_embedding(x: Tensor, layer: nn.Module, embedding: Embedding) -> Tensor:
    """Return x [N, C, H, W] plus the projection of an embedding [N, E] by `layer`.

    Writes into x where no gradient is needed, so the caller must own x.
    """
    if isinstance(embedding, RegionalEmbedding):
        return embedding.add_to(x, layer)
    rows = embedding.main if isinstance(embedding, SharedEmbedding) else embedding
    return accumulate(x, layer(rows)[:, :, None, None])


def convolve_and_embed(
    conv: nn.Module, x: Tensor, layer: nn.Module, embedding: Embedding, num_frames: int | None = None
) -> Tensor:
    """Return conv(x) plus the projection of an embedding by `layer`, in one call where the embedding is shared.

    x: [N, C, H, W]. num_frames: frames per clip if the convolution is temporal, None if it is spatial.
    """
    bias = embedding.bias(layer, conv) if isinstance(embedding, SharedEmbedding) else None
    if num_frames is not None:
        h = convolve_clip(conv, x, num_frames, bias)
    else:
        h = conv(x) if bias is None else conv._conv_forward(x, conv.weight, bias)
    return h if bias is not None else add_embedding(h, layer, embedding)
