"""Two global embeddings in one picture: what the network is told differs from region to region.

Blended behind the layers that project an embedding, at the size of each level, so that a region costs one more small
network and one multiply-add per block. Knows no motion numbers.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import accumulate, convolve_clip
from .reused_work import EqualRows


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


Embedding = Tensor | EqualRows | RegionalEmbedding
"""What the blocks get of noise level and motion: a row per frame, one row for all, or two by region."""


def add_embedding(x: Tensor, layer: nn.Module, embedding: Embedding) -> Tensor:
    """Return x [N, C, H, W] plus the projection of an embedding [N, E] by `layer`. Pass only an x you own."""
    if isinstance(embedding, RegionalEmbedding):
        return embedding.add_to(x, layer)
    rows = embedding.main if isinstance(embedding, EqualRows) else embedding
    return accumulate(x, layer(rows)[:, :, None, None])


def convolve_and_embed(
    conv: nn.Module, x: Tensor, layer: nn.Module, embedding: Embedding, num_frames: int | None = None
) -> Tensor:
    """Return conv(x) plus the projection of an embedding by `layer`, in one go where that is possible.

    x: [N, C, H, W]. num_frames: frames of a clip if the convolution is one over time.
    """
    bias = embedding.bias(layer, conv) if isinstance(embedding, EqualRows) else None
    if num_frames is not None:
        h = convolve_clip(conv, x, num_frames, bias)
    else:
        h = conv(x) if bias is None else conv._conv_forward(x, conv.weight, bias)
    return h if bias is not None else add_embedding(h, layer, embedding)
