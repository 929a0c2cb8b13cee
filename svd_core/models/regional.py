"""Two global embeddings in one picture: what the network is told differs from region to region.

Blended behind the layers that project an embedding, at the size of each level, so that a region costs one more small
network and one multiply-add per block. Knows no motion numbers.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import accumulate


class RegionalEmbedding:
    """An embedding [N, E], and another one with its share [N, 1, h, w] in 0..1 of every cell."""

    def __init__(self, main: Tensor, other: Tensor, share: Tensor) -> None:
        self.main, self.other = main, other
        self._shares = {tuple(share.shape[-2:]): share.to(main)}
        self._finest = self._shares[tuple(share.shape[-2:])]

    def share(self, size: tuple[int, int]) -> Tensor:
        """The other one's share at another (height, width), averaged: [N, 1, *size]."""
        if size not in self._shares:
            self._shares[size] = F.interpolate(self._finest, size, mode="area")
        return self._shares[size]

    def add_to(self, x: Tensor, layer: nn.Module) -> Tensor:
        """See add_embedding."""
        main, other = (layer(embedding)[:, :, None, None] for embedding in (self.main, self.other))
        return accumulate(accumulate(x, main), other - main, self.share(tuple(x.shape[-2:])))


def add_embedding(x: Tensor, layer: nn.Module, embedding: Tensor | RegionalEmbedding) -> Tensor:
    """Return x [N, C, H, W] plus the projection of an embedding [N, E] by `layer`. Pass only an x you own."""
    if isinstance(embedding, RegionalEmbedding):
        return embedding.add_to(x, layer)
    return accumulate(x, layer(embedding)[:, :, None, None])
