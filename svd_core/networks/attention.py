"""Attention and feed-forward layers of the transformer blocks (spec section 3.4)."""

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels
from .attention_kernels import fused_attention
from .kernels.weights import is_plain
from .layers import accumulate
from .reused_work import Kept, joined, rows_are_equal

SEQUENCES_PER_CALL = 2**15
"""Attention kernels limit batch times heads; the official code slices at this many sequences too (spec trap 31)."""

NUMBERS_PER_CALL = 40 * 10**6
"""Input numbers of one feed-forward call. Its hidden layer is eight times as wide, the largest tensor of the network,
so larger inputs go piece by piece: the top level of a clip of 25 frames at 1024x576 in two.
"""

NUMBERS_PER_CALL_ON_CPU = 5 * 2**17
"""The same on the CPU: a hidden layer of 20 MiB in float32. Allocators give larger memory back to the system at once,
so that every call would wait for the same pages again, a fifth of its time.
"""


def most_numbers(device: torch.device, wanted: int | None) -> int:
    """Input numbers of one feed-forward call on a device, `wanted` where that is less."""
    limit = NUMBERS_PER_CALL_ON_CPU if device.type == "cpu" else NUMBERS_PER_CALL
    return min(wanted or limit, limit)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention over [N, heads, length, head width], sliced along N where kernels could not take
    it.
    """
    if q.shape[0] <= SEQUENCES_PER_CALL:
        return fused_attention(q, k, v)
    pieces = zip(q.split(SEQUENCES_PER_CALL), k.split(SEQUENCES_PER_CALL), v.split(SEQUENCES_PER_CALL), strict=True)
    return torch.cat([fused_attention(*piece) for piece in pieces])


class Attention(nn.Module):
    """Multi-head attention; keys and values come from `context_channels` wide tokens (None: the queries' own).

    `product` is what its matrices are multiplied by; see `use_product`.
    """

    product: kernels.Product = staticmethod(F.linear)

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
        self._kept = Kept()

    def joinable(self) -> list[nn.Parameter]:
        """The weights that may share memory where all three take the same input."""
        return [self.to_q.weight, self.to_k.weight, self.to_v.weight]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))  # [..., heads, head width]

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers = (self.to_q, self.to_k, self.to_v)
        if not torch.is_grad_enabled() and not torch.compiler.is_compiling() and all(map(is_plain, layers)):
            weight = joined(self.joinable())
            if weight is not None:
                whole = self.product(x, weight.view(-1, x.shape[-1]), None)
                return tuple(map(self._heads, whole.chunk(3, dim=-1)))
        return tuple(self._heads(kernels.multiply(layer, x, self.product)) for layer in layers)

    def _project_out(self, out: Tensor, constant: Tensor | None) -> Tensor:
        layer = self.to_out[0]
        if constant is None:
            return kernels.multiply(layer, out, self.product)
        if constant.numel() > constant.shape[-1] or torch.is_grad_enabled() or not is_plain(layer):
            return accumulate(kernels.multiply(layer, out, self.product), constant)
        sources = [layer.bias, constant]
        bias = self._kept.get(sources, "bias", lambda: layer.bias + constant.reshape(-1))
        return self.product(out, layer.weight, bias)

    def spatial(self, x: Tensor, constant: Tensor | None = None) -> Tensor:
        """Self-attention over the pixels of each frame, plus a constant [N or 1, 1, C]. x: [N, S, C]."""
        q, k, v = self._queries_keys_values(x)  # [N, S, heads, D]
        del x  # here and below: gives memory back before the next large tensor is made
        out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))  # [N, heads, S, D]
        del q, k, v
        out = out.transpose(1, 2).flatten(2)
        return self._project_out(out, constant)

    def temporal(self, x: Tensor, constant: Tensor | None = None) -> Tensor:
        """Self-attention over the frames of each pixel, plus a constant [B, 1, 1, C]. x: [B, T, S, C].

        The frame axis is strided, never copied.
        """
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
        return self._project_out(out, constant)

    def cross(self, x: Tensor, context: Tensor) -> Tensor:
        """Attention of queries x [N, S, C] to context tokens [N, n, D]."""
        q, k, v = self._heads(self.to_q(x)), self._heads(self.to_k(context)), self._heads(self.to_v(context))
        out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    def of_single_token(self, context: Tensor) -> Tensor:
        """Cross-attention to one token: its softmax is 1, so the result is a constant of the token (spec section 3.5).

        context: [N, 1, D]. Returns [N, 1, C], exactly what `cross` gives for any query; [1, 1, C] if all rows are
        known to be equal. It does not depend on the step, so it is computed once per context.
        """
        if rows_are_equal(context):
            context = context[:1]
        if not is_plain(self.to_v) or not is_plain(self.to_out[0]):
            return self.to_out[0](self.to_v(context))
        sources = [context, self.to_v.weight, self.to_out[0].weight, self.to_out[0].bias]
        return self._kept.get(sources, "token", lambda: self.to_out[0](self.to_v(context)))


class _GatedProjection(nn.Module):
    def __init__(self, channels: int, hidden: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.proj = ops.Linear(channels, 2 * hidden, device=device, dtype=dtype)

    def forward(self, x: Tensor, product: kernels.Product = F.linear) -> Tensor:
        fused = kernels.gated(self.proj, x, product)
        if fused is not None:
            return fused
        value, gate = kernels.multiply(self.proj, x, product).chunk(2, dim=-1)
        # The exact GELU: quick or tanh forms degrade the result (spec trap 21).
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return value * F.gelu(gate)
        return value.mul_(torch.ops.aten.gelu.out(gate, out=gate))


class FeedForward(nn.Module):
    """Gated feed-forward layer C -> 4C -> C (spec section 3.4).

    `numbers_per_call` may lower NUMBERS_PER_CALL where memory is short (None: as that says). `product` is what its
    matrices are multiplied by; see `use_product`.
    """

    numbers_per_call: int | None = None
    product: kernels.Product = staticmethod(F.linear)

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.net = nn.ModuleDict(
            {
                "0": _GatedProjection(channels, 4 * channels, ops=ops, **place),
                "2": ops.Linear(4 * channels, channels, **place),
            }
        )

    def carried_bias(self) -> Tensor | None:
        """The last bias [C] if `add_to` can leave it to the caller, else None."""
        layer = self.net["2"]
        return layer.bias if is_plain(layer) and not torch.is_grad_enabled() else None

    def add_to(self, x: Tensor, normed: Tensor, *, carry: bool = False) -> Tensor:
        """x + feed_forward(normed), at most NUMBERS_PER_CALL numbers at a time. x, normed: [..., C], x owned by the
        caller. carry: leave out the last bias, see `carried_bias`.
        """
        rows = x.reshape(-1, x.shape[-1])
        rows_per_call = max(1, most_numbers(x.device, self.numbers_per_call) // x.shape[-1])
        gated, last = self.net["0"], self.net["2"]
        if torch.is_grad_enabled():
            return accumulate(x, last(gated(normed)))  # training is exact
        pieces = deque(normed.reshape(rows.shape).split(rows_per_call))
        del normed
        bias = self.carried_bias()
        for piece in rows.split(rows_per_call):
            hidden = gated(pieces.popleft(), self.product)
            if bias is None:
                piece.add_(kernels.multiply(last, hidden, self.product))
            elif self.product is F.linear:
                piece.addmm_(hidden, last.weight.t())  # the matrix product adds to the residual
            else:
                piece.add_(self.product(hidden, last.weight, None))
            del hidden
        if bias is not None and not carry:
            rows.add_(bias)
        return rows.reshape(x.shape)


def use_product(network: nn.Module, product: kernels.Product | None) -> int:
    """Let the attention and feed-forward layers of a network multiply by `product` (None: F.linear); says how many.

    Cross-attention, projections into and out of transformers and everything else stay as they are.
    """
    chosen = [m for m in network.modules() if isinstance(m, (Attention, FeedForward))]
    chosen = [m for m in chosen if isinstance(m, FeedForward) or m.to_k.in_features == m.to_q.in_features]
    for module in chosen:
        module.product = product or F.linear
    return len(chosen)
