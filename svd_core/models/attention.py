"""Attention and feed-forward layers of the transformer blocks (spec section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import accumulate

SEQUENCES_PER_CALL = 2**15
"""Attention kernels limit batch times heads; the official code slices at this many sequences too (spec trap 31)."""

NUMBERS_PER_CALL = 2**23
"""Input numbers of one feed-forward call. Its hidden layer is eight times as wide, the largest tensor of the network,
so larger inputs go piece by piece.
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

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._heads(self.to_q(x)), self._heads(self.to_k(x)), self._heads(self.to_v(x))

    def spatial(self, x: Tensor) -> Tensor:
        """Self-attention over the pixels of each frame. x: [N, S, C]."""
        q, k, v = self._queries_keys_values(x)  # [N, S, heads, D]
        del x  # here and below: gives memory back before the next large tensor is made
        out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))  # [N, heads, S, D]
        del q, k, v
        out = out.transpose(1, 2).flatten(2)
        return self.to_out[0](out)

    def temporal(self, x: Tensor) -> Tensor:
        """Self-attention over the frames of each pixel. x: [B, T, S, C]. The frame axis is strided, never copied."""
        q, k, v = self._queries_keys_values(x)  # [B, T, S, heads, D]
        del x
        out = [attend(*(part.permute(1, 2, 0, 3) for part in video)) for video in zip(q, k, v, strict=True)]
        del q, k, v
        out = (
            torch.stack([video.permute(2, 0, 1, 3) for video in out])
            if len(out) > 1
            else out[0].permute(2, 0, 1, 3)[None]
        )
        out = out.flatten(3)  # [B, T, S, C]
        return self.to_out[0](out)

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
        gate = F.gelu(gate)  # the exact GELU: quick or tanh forms degrade the result (spec trap 21)
        return value * gate if torch.is_grad_enabled() else gate.mul_(value)


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
        """x + feed_forward(norm(x)), at most NUMBERS_PER_CALL numbers at a time. x: [..., C], owned by the caller."""
        rows = x.reshape(-1, x.shape[-1])
        rows_per_call = max(1, NUMBERS_PER_CALL // x.shape[-1])
        if rows.shape[0] <= rows_per_call or torch.is_grad_enabled():
            return accumulate(x, self._rows(norm(x)))
        for piece in rows.split(rows_per_call):
            piece.add_(self._rows(norm(piece)))
        return rows.reshape(x.shape)
