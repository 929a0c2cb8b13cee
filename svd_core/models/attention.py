"""Attention and feed-forward layers of the transformer blocks (spec section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import accumulate

SEQUENCES_PER_CALL = 2**15
"""Attention kernels limit batch times heads; the official code slices at this many sequences too (spec trap 31)."""

ROWS_PER_CALL = 2**16
"""Tokens of one feed-forward call. Its hidden layer is eight times as wide as its input; larger batches go piece by
piece.
"""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention over [N, heads, length, head width], sliced along N where kernels could not take
    it.
    """
    if q.shape[0] <= SEQUENCES_PER_CALL:
        return F.scaled_dot_product_attention(q, k, v)
    pieces = zip(q.split(SEQUENCES_PER_CALL), k.split(SEQUENCES_PER_CALL), v.split(SEQUENCES_PER_CALL), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece) for piece in pieces])


class Attention(nn.Module):
    """Multi-head attention; keys and values come from `context_channels` wide tokens (None: the queries' own)."""

    def __init__(
        self, channels: int, head_channels: int, context_channels: int | None = None, *, ops=nn, device=None, dtype=None
    ):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        context_channels = context_channels or channels
        self.heads = channels // head_channels
        self.to_q = ops.Linear(channels, channels, bias=False, **place)
        self.to_k = ops.Linear(context_channels, channels, bias=False, **place)
        self.to_v = ops.Linear(context_channels, channels, bias=False, **place)
        self.to_out = nn.ModuleList([ops.Linear(channels, channels, **place)])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))  # [..., heads, head width]

    def spatial(self, x: Tensor) -> Tensor:
        """Self-attention over the pixels of each frame. x: [N, S, C]."""
        q, k, v = (self._heads(to(x)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))  # [N, heads, S, D]
        return self.to_out[0](attend(q, k, v).transpose(1, 2).flatten(2))

    def temporal(self, x: Tensor) -> Tensor:
        """Self-attention over the frames of each pixel. x: [B, T, S, C]. The frame axis is strided, never copied."""
        q, k, v = (self._heads(to(x)) for to in (self.to_q, self.to_k, self.to_v))  # [B, T, S, heads, D]
        videos = []
        for b in range(x.shape[0]):
            sequences = (part[b].permute(1, 2, 0, 3) for part in (q, k, v))  # [S, heads, T, D]
            videos.append(attend(*sequences).permute(2, 0, 1, 3).flatten(2))  # [T, S, C]
        return self.to_out[0](torch.stack(videos) if len(videos) > 1 else videos[0][None])

    def cross(self, x: Tensor, context: Tensor) -> Tensor:
        """Attention of queries x [N, S, C] to context tokens [N, n, D]."""
        q, k, v = self._heads(self.to_q(x)), self._heads(self.to_k(context)), self._heads(self.to_v(context))
        out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    def of_single_token(self, context: Tensor) -> Tensor:
        """Cross-attention to one token: its softmax is 1, so the result is a constant of the token (spec section 3.5).

        context: [N, 1, D]. Returns [N, 1, C], exactly what `cross` gives for any query.
        """
        return self.to_out[0](self.to_v(context))


class _GatedProjection(nn.Module):
    def __init__(self, channels: int, hidden: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.proj = ops.Linear(channels, 2 * hidden, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)  # the exact GELU: quick or tanh forms degrade the result (spec trap 21)


class FeedForward(nn.Module):
    """Gated feed-forward layer C -> 4C -> C (spec section 3.4)."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.net = nn.ModuleDict(
            {
                "0": _GatedProjection(channels, 4 * channels, ops=ops, **place),
                "2": ops.Linear(4 * channels, channels, **place),
            }
        )

    def _rows(self, x: Tensor) -> Tensor:
        return self.net["2"](self.net["0"](x))

    def add_to(self, x: Tensor, norm: nn.Module) -> Tensor:
        """x + feed_forward(norm(x)), at most ROWS_PER_CALL tokens at a time. x: [..., C], owned by the caller."""
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] <= ROWS_PER_CALL or torch.is_grad_enabled():
            return accumulate(x, self._rows(norm(x)))
        for piece in rows.split(ROWS_PER_CALL):
            piece.add_(self._rows(norm(piece)))
        return rows.reshape(x.shape)
