"""The SVD ControlNet: the downward half of the UNet with a hint, and the residuals that it gives the UNet.

A ControlNet of this kind (depth, line art) copies the UNet's embeddings, input blocks and middle block, adds the
features of a control picture to the first convolution's result, and sends every skip through a 1x1 convolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import UNetConfig
from .embedding import Embedding
from .hooks import Hooks
from .transformer import VideoTransformer
from .unet import UNet, VideoResidualBlock

HINT_WIDTHS = (16, 32, 96, 256)
"""Channels of the hint network, which halves the picture three times."""


@dataclass(frozen=True)
class Residuals:
    """What a ControlNet gives one pass: a tensor per skip [B*T, C, h, w], in their order, and one for the middle.

    Of a pass that takes inner features from a cache there are only the outer skips, and no middle.
    """

    skips: tuple[Tensor, ...]
    middle: Tensor | None


class HintEncoder(nn.Module):
    """Control pictures [N, 3, 8h, 8w] in -1..1 to features [N, C, h, w]."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.conv_in = ops.Conv2d(3, HINT_WIDTHS[0], 3, padding=1, **place)
        blocks = []
        for narrow, wide in zip(HINT_WIDTHS, HINT_WIDTHS[1:], strict=False):
            blocks.append(ops.Conv2d(narrow, narrow, 3, padding=1, **place))
            blocks.append(ops.Conv2d(narrow, wide, 3, padding=1, stride=2, **place))
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = ops.Conv2d(HINT_WIDTHS[-1], channels, 3, padding=1, **place)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features of control pictures."""
        h = F.silu(self.conv_in(pictures))
        for block in self.blocks:
            h = F.silu(block(h))
        return self.conv_out(h)


class ControlNet(UNet):
    """The copied half of the UNet, the hint and the 1x1 convolutions; names of the copy are the UNet's own.

    compute_dtype: what it computes in; None for the dtype of its weights.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(self, config: UNetConfig, *, ops=nn, device=None, dtype=None):
        super().__init__(config, ops=ops, device=device, dtype=dtype)
        place = {"device": device, "dtype": dtype}
        # The upward half is never run; as empty modules its weights cost nothing once they are collected.
        self.output_blocks, self.out = nn.ModuleList(), nn.ModuleDict()
        self.hint = HintEncoder(config.model_channels, ops=ops, **place)
        widths = skip_widths(config)
        self.zero_convs = nn.ModuleList([ops.Conv2d(width, width, 1, **place) for width in widths])
        self.middle_conv = ops.Conv2d(widths[-1], widths[-1], 1, **place)

    @property
    def running_dtype(self) -> torch.dtype:
        """The dtype of its input and of the residuals."""
        return self.compute_dtype or self.middle_conv.weight.dtype

    def residuals(
        self,
        x: Tensor,
        c_noise: Tensor,
        context: Tensor | Sequence[Tensor],
        vector: Tensor,
        num_frames: int,
        hint: Tensor,
        depth: int | None = None,
    ) -> Residuals:
        """Return the residuals for the UNet's own inputs (see `UNet.forward`) and hint features [B*T, C, h, w].

        depth: run only this many input blocks, for a UNet whose inner features come from a cache.
        """
        embedding = self._embedding(c_noise, vector, x.dtype)
        context = self._context(context, x.dtype)
        skips, h = [], x
        for index, layers in enumerate(self.input_blocks[:depth]):
            h = _run(layers, h, embedding, context, num_frames)
            if index == 0:
                h = h + hint
            skips.append(self.zero_convs[index](h))
        if depth is not None:
            return Residuals(tuple(skips), None)
        h = _run(self.middle_block, h, embedding, context, num_frames)
        return Residuals(tuple(skips), self.middle_conv(h))


def _run(layers: nn.ModuleList, h: Tensor, embedding: Embedding, context: Tensor, num_frames: int) -> Tensor:
    """Run the layers of one block."""
    for layer in layers:
        if isinstance(layer, VideoResidualBlock):
            h = layer(h, embedding, num_frames)
        elif isinstance(layer, VideoTransformer):
            h = layer(h, context, num_frames)
        else:
            h = layer(h)
    return h


def skip_widths(config: UNetConfig) -> list[int]:
    """Return the channels of every skip of the UNet, in order: one for each input block."""
    widths = [config.model_channels]
    for level, mult in enumerate(config.channel_mult):
        widths += [config.model_channels * mult] * config.num_res_blocks
        if level < len(config.channel_mult) - 1:
            widths.append(config.model_channels * mult)
    return widths


def trained_counts(config: UNetConfig) -> list[int]:
    """Return how often each skip gets its residual, as the public weights were trained: 4,4,4,4,3,3,3,2,2,2,1,1.

    After each level on the way down, their UNet adds the residuals of all earlier skips once more.
    """
    counts, levels = [len(config.channel_mult)], len(config.channel_mult)
    for level in range(levels):
        last = level == levels - 1
        counts += [levels - level] * (config.num_res_blocks + (not last))
    return counts


class AddResiduals(Hooks):
    """Adds residuals to the skips as the UNet takes them in, `counts` times each, and to the middle block's result."""

    uses_embedding = False

    def __init__(
        self,
        residuals: Residuals,
        counts: Sequence[int],
        strength: Tensor | float = 1.0,
        mask: Tensor | None = None,
    ) -> None:
        """strength: a number, or a tensor that broadcasts to [B*T, C, h, w], such as one value per frame.

        mask: [B*T, 1, h, w] in 0..1, resized to every level (nearest), or None.
        """
        self.added = residuals
        self.counts = counts
        self.strength = strength
        self.mask = mask

    def after_middle(self, h: Tensor, embedding: Tensor | None) -> Tensor:
        return h + self._weighted(self.added.middle, 1).to(h)

    def skip(self, index: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        number = len(self.counts) - 1 - index
        return h, skip + self._weighted(self.added.skips[number], self.counts[number]).to(skip)

    def _weighted(self, residual: Tensor, count: int) -> Tensor:
        """Return a residual times its count and the strength, within the mask."""
        weighted = residual * (count * self.strength)
        if self.mask is None:
            return weighted
        return weighted * F.interpolate(self.mask, size=residual.shape[-2:], mode="nearest").to(weighted)
