"""Attention and feed-forward layers of the transformer blocks (spec section 3.4)."""

from collections import deque

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..stopping import stop_if_asked
from . import kernels
from .activation_bytes import BYTES_PER_SCORE, CHUNK_ELEMENTS, SCORE_BYTES
from .embedding import is_broadcast
from .joined_weights import joined_view
from .kernels.attention_backends import fused_attention, host_attention, stores_scores
from .kernels.weights import is_plain
from .layers import accumulate
from .step_cache import StepCache

SEQUENCES_PER_CALL = 2**15
"""Attention kernels limit batch times heads; the official code slices at this many sequences too (spec trap 31)."""

CHUNK_ELEMENTS_ON_CPU = 5 * 2**17
"""Input elements per feed-forward chunk on the CPU, for a hidden layer of 20 MiB in float32.

Allocators return larger blocks to the system at once. Each call would then fault the same pages in again, which costs a
fifth of its time.
"""


WORK_ON_CPU, QUERIES_ON_CPU = 2**35, 512
"""Floating-point operations of an attention call on the CPU, about half a second of one core, so that a run can be
stopped in between; and the queries of which slices are multiples, so that torch's kernels round as they do without.
"""


def chunk_limit(device: torch.device, wanted: int | None) -> int:
    """Return the input elements per feed-forward chunk on a device: `wanted`, but at most the device's limit."""
    limit = CHUNK_ELEMENTS_ON_CPU if device.type == "cpu" else CHUNK_ELEMENTS
    return min(wanted or limit, limit)


def attend(q: Tensor, k: Tensor, v: Tensor, score_bytes: int | None = None) -> Tensor:
    """Return scaled dot-product attention over [N, heads, length, head width].

    It is computed in slices: of N for large N, and of N and the queries where scores are kept that would take more than
    `score_bytes` (None: SCORE_BYTES), or where a CPU would take long. Every query sees all keys, so slices change
    nothing but rounding.
    """
    rows, queries = SEQUENCES_PER_CALL, q.shape[2]
    if stores_scores(q, k, v):
        limit = (score_bytes or SCORE_BYTES) // (BYTES_PER_SCORE * q.shape[1] * k.shape[2])  # queries of all heads
        rows, queries = max(1, min(rows, limit // queries)), max(1, min(queries, limit))
    if q.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        most = WORK_ON_CPU // (4 * q.shape[1] * k.shape[2] * q.shape[3]) // QUERIES_ON_CPU * QUERIES_ON_CPU
        most = max(QUERIES_ON_CPU, most)
        rows, queries = max(1, min(rows, most // q.shape[2])), min(queries, most)
    if len(q) <= rows and q.shape[2] <= queries:
        return fused_attention(q, k, v)
    parts = []
    for some, keys, values in zip(q.split(rows), k.split(rows), v.split(rows), strict=True):
        slices = []
        for part in some.split(queries, dim=2):
            stop_if_asked()
            slices.append(fused_attention(part, keys, values))
        parts.append(slices[0] if len(slices) == 1 else torch.cat(slices, dim=2))
    return torch.cat(parts)


class Attention(nn.Module):
    """Multi-head attention. Keys and values come from tokens of `context_channels`, or from the queries' own tokens.

    `product` replaces F.linear for the large matrices; see `use_product`. `score_bytes` lowers the limit of `attend`
    where memory is short.
    """

    product: kernels.Product = staticmethod(F.linear)
    score_bytes: int | None = None

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
        self._cache = StepCache()

    def joinable(self) -> list[nn.Parameter]:
        """Return the weights that may be joined in memory, because all three multiply the same input."""
        return [self.to_q.weight, self.to_k.weight, self.to_v.weight]

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three tensors of x's shape [..., C], the heads side by side in C."""
        layers = (self.to_q, self.to_k, self.to_v)
        if not torch.is_grad_enabled() and not torch.compiler.is_compiling() and all(map(is_plain, layers)):
            weight = joined_view(self.joinable())
            if weight is not None:
                return self.product(x, weight.view(-1, x.shape[-1]), None).chunk(3, dim=-1)
        return tuple(kernels.multiply(layer, x, self.product) for layer in layers)

    def _project_out(self, out: Tensor, constant: Tensor | None) -> Tensor:
        """Return the output projection of [..., C] plus a constant that broadcasts to it."""
        layer = self.to_out[0]
        if constant is None:
            return kernels.multiply(layer, out, self.product)
        if constant.numel() > constant.shape[-1] or torch.is_grad_enabled() or not is_plain(layer):
            return accumulate(kernels.multiply(layer, out, self.product), constant)
        sources = [layer.bias, constant]
        bias = self._cache.get(sources, "bias", lambda: layer.bias + constant.reshape(-1))
        return self.product(out, layer.weight, bias)

    def spatial(self, x: Tensor, constant: Tensor | None = None) -> Tensor:
        """Return self-attention over the pixels of each frame, plus a constant [N or 1, 1, C]. x: [N, S, C]."""
        parts = list(self._queries_keys_values(x))  # [N, S, C] each
        del x  # here and below: frees memory before the next large tensor is allocated
        out = host_attention(*parts, self.heads)
        if out is None:
            parts[:] = [rearrange(part, "n s (h d) -> n h s d", h=self.heads) for part in parts]
            out = attend(*parts, self.score_bytes)  # [N, heads, S, D]
            parts.clear()
            out = rearrange(out, "n h s d -> n s (h d)")
        parts.clear()
        return self._project_out(out, constant)

    def temporal(self, x: Tensor, constant: Tensor | None = None) -> Tensor:
        """Return self-attention over the frames of each pixel, plus a constant [B, 1, 1, C]. x: [B, T, S, C].

        The frame axis is strided and never copied.
        """
        q, k, v = (rearrange(part, "b t s (h d) -> b s h t d", h=self.heads) for part in self._queries_keys_values(x))
        del x
        out = [attend(*video, self.score_bytes) for video in zip(q, k, v, strict=True)]  # B times [S, heads, T, D]
        del q, k, v
        if len(out) > 1:
            out = torch.stack([rearrange(video, "s h t d -> t s h d") for video in out]).flatten(3)  # [B, T, S, C]
        else:
            out = rearrange(out[0], "s h t d -> 1 t s (h d)")
        return self._project_out(out, constant)

    def cross(self, x: Tensor, context: Tensor) -> Tensor:
        """Return attention of queries x [N, S, C] to context tokens [N, n, D]."""
        parts = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (rearrange(part, "n s (h d) -> n h s d", h=self.heads) for part in parts)
        return self.to_out[0](rearrange(attend(q, k, v, self.score_bytes), "n h s d -> n s (h d)"))

    def of_single_token(self, context: Tensor) -> Tensor:
        """Return cross-attention to one token: its softmax is 1, so the result is a constant (spec section 3.5).

        context: [N, 1, D]. Returns [N, 1, C], exactly what `cross` gives for any query, or [1, 1, C] if context is one
        broadcast row. The result does not depend on the step, so it is cached per context.
        """
        if is_broadcast(context):
            context = context[:1]
        if not is_plain(self.to_v) or not is_plain(self.to_out[0]):
            return self.to_out[0](self.to_v(context))
        sources = [context, self.to_v.weight, self.to_out[0].weight, self.to_out[0].bias]
        return self._cache.get(sources, "token", lambda: self.to_out[0](self.to_v(context)))


class _GatedProjection(nn.Module):
    """GEGLU: a projection to value and gate, and value * GELU(gate)."""

    def __init__(self, channels: int, hidden: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.proj = ops.Linear(channels, 2 * hidden, device=device, dtype=dtype)

    def forward(self, x: Tensor, product: kernels.Product = F.linear) -> Tensor:
        """Return [..., hidden] for x [..., C]."""
        fused = kernels.geglu(self.proj, x, product)
        if fused is not None:
            return fused
        value, gate = kernels.multiply(self.proj, x, product).chunk(2, dim=-1)
        # The exact GELU: the quick and tanh forms degrade the result (spec trap 21).
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return value * F.gelu(gate)
        return value.mul_(torch.ops.aten.gelu.out(gate, out=gate))


class FeedForward(nn.Module):
    """Gated feed-forward layer C -> 4C -> C (spec section 3.4).

    `chunk_elements` lowers the chunk size where memory is short; None uses the device's limit. `product` replaces
    F.linear for the large matrices; see `use_product`.
    """

    chunk_elements: int | None = None
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
        """Return the last bias [C] if `add_to(carry=True)` can leave it to the caller, else None."""
        layer = self.net["2"]
        return layer.bias if is_plain(layer) and not torch.is_grad_enabled() else None

    def add_to(self, x: Tensor, normed: Tensor, *, carry: bool = False) -> Tensor:
        """Return x + feed_forward(normed), computed in chunks of `chunk_limit` elements.

        x, normed: [..., C]; the caller must own x. carry: omit the last bias, which the caller adds (`carried_bias`).
        """
        rows = x.reshape(-1, x.shape[-1])
        rows_per_chunk = max(1, chunk_limit(x.device, self.chunk_elements) // x.shape[-1])
        gated, last = self.net["0"], self.net["2"]
        if torch.is_grad_enabled():
            return accumulate(x, last(gated(normed)))  # training is exact
        chunks = deque(normed.reshape(rows.shape).split(rows_per_chunk))
        del normed
        bias = self.carried_bias()
        for target in rows.split(rows_per_chunk):
            hidden = gated(chunks.popleft(), self.product)
            if bias is None:
                target.add_(kernels.multiply(last, hidden, self.product))
            elif self.product is F.linear:
                target.addmm_(hidden, last.weight.t())  # the matrix product adds to the residual
            else:
                target.add_(self.product(hidden, last.weight, None))
            del hidden
        if bias is not None and not carry:
            rows.add_(bias)
        return rows.reshape(x.shape)


def use_product(network: nn.Module, product: kernels.Product | None) -> int:
    """Make the self-attention and feed-forward layers of a network multiply by `product` (None: F.linear).

    Cross-attention, the projections into and out of transformers and all other layers stay as they are. Returns the
    number of layers changed.
    """
    chosen = [m for m in network.modules() if isinstance(m, (Attention, FeedForward))]
    chosen = [m for m in chosen if isinstance(m, FeedForward) or m.to_k.in_features == m.to_q.in_features]
    for module in chosen:
        module.product = product or F.linear
    return len(chosen)
