"""The video transformer with hooks: the same layers as its fast path, in the order in which hooks expect them.

Nothing is folded or joined here: every projection runs by itself, every row of the context is there, and the temporal
block has the rows [B * S, T, C] that patches of the field know. The result differs from the fast path by rounding only.
"""

import torch
from torch import Tensor

from .attention import Attention, attend
from .hooks import SPATIAL, TEMPORAL, AttentionFunction, BlockHooks, Hooks
from .transformer import SpatialBlock, TemporalBlock, VideoTransformer


def run_with_hooks(
    transformer: VideoTransformer,
    x: Tensor,
    context: Tensor,
    num_frames: int,
    hooks: Hooks,
    image_only: Tensor | None = None,
    time_context: Tensor | None = None,
) -> Tensor:
    """Run a transformer of a pass: on its fast path unless `hooks` concern it. Shapes as in `VideoTransformer`."""
    blocks = hooks.transformer(tuple(x.shape))
    if blocks is None:
        out = transformer(x, context, num_frames, image_only)
    else:
        out = run_hooked(
            transformer, x, context, num_frames, blocks,
            image_only=image_only, time_context=time_context, attention=hooks.attention,
        )  # fmt: skip
    hooks.leave_transformer()
    return out


def run_hooked(
    transformer: VideoTransformer,
    x: Tensor,
    context: Tensor,
    num_frames: int,
    hooks: BlockHooks,
    *,
    image_only: Tensor | None = None,
    time_context: Tensor | None = None,
    attention: AttentionFunction | None = None,
) -> Tensor:
    """Run a transformer on x [B*T, C, H, W] with its context [B*T, n, D] or [B, n, D]; returns x's shape.

    time_context: other tokens [B*T, n, D] for the temporal block, whose first row of each video counts; None takes
    those of the context. attention: what attends unless a hook replaces it.
    """
    rows, channels, height, width = x.shape
    videos = rows // num_frames
    context = _per_frame(context, rows)
    attention = attention or attention_of_queries
    tokens = transformer.proj_in(transformer.norm(x).flatten(2).transpose(1, 2))  # [B*T, S, C]
    spatial, temporal = transformer.transformer_blocks[0], transformer.time_stack[0]
    if SPATIAL in hooks.kinds:
        tokens = _run_block(spatial, tokens, context, hooks, SPATIAL, attention)
    else:
        tokens = spatial(tokens, context)

    first = (context if time_context is None else _per_frame(time_context, rows))[::num_frames]  # [B, n, D]
    positions = transformer._positions(num_frames, tokens)  # [T, C]
    if TEMPORAL not in hooks.kinds:
        mixed = temporal(tokens.unflatten(0, (videos, num_frames)), positions, first).flatten(0, 1)  # [B*T, S, C]
        return _blend(transformer, x, tokens, mixed, image_only)
    clips = tokens.unflatten(0, (videos, num_frames)) + positions[:, None]  # [B, T, S, C]
    clips = clips.transpose(1, 2).flatten(0, 1)  # [B*S, T, C]
    pixels = height * width
    mixed = _run_block(temporal, clips, first.repeat_interleave(pixels, 0), hooks, TEMPORAL, attention)
    mixed = mixed.unflatten(0, (videos, pixels)).transpose(1, 2).flatten(0, 1)  # [B*T, S, C]
    return _blend(transformer, x, tokens, mixed, image_only)


def _blend(
    transformer: VideoTransformer, x: Tensor, tokens: Tensor, mixed: Tensor, image_only: Tensor | None
) -> Tensor:
    """Return the transformer's result [B*T, C, H, W] from both of its blocks' tokens [B*T, S, C]."""
    tokens = torch.lerp(tokens, mixed, transformer.time_mixer.temporal_weight(tokens, image_only))
    out = transformer.proj_out(tokens)
    return x + out.transpose(1, 2).unflatten(2, tuple(x.shape[-2:]))


def _run_block(
    block: SpatialBlock | TemporalBlock,
    x: Tensor,
    context: Tensor,
    hooks: BlockHooks,
    kind: str,
    attention: AttentionFunction,
) -> Tensor:
    """Run one block on [rows, L, C]; both kinds have the same hooks."""
    heads = block.attn1.heads
    hooks.begin(kind, heads, x.shape[-1] // heads)
    if kind == TEMPORAL:
        x = block.ff_in.add_to(x, block.norm_in(x))  # x is owned: it was just made
    normed = block.norm1(x)
    x = x + _attend(block.attn1, 1, normed, normed, hooks, attention)
    x = hooks.between(x)
    x = x + _attend(block.attn2, 2, block.norm2(x), context, hooks, attention)
    return block.ff.add_to(x, block.norm3(x))


def _attend(
    layer: Attention, which: int, x: Tensor, context: Tensor, hooks: BlockHooks, attention: AttentionFunction
) -> Tensor:
    query, key, value = hooks.inputs(which, x, context, context)
    q, k, v = layer.to_q(query), layer.to_k(key), layer.to_v(value)
    out = hooks.attend(which, q, k, v, layer.heads, attention)
    return hooks.output(which, layer.to_out[0](out))


def attention_of_queries(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return the attention over [rows, L, C] with the heads side by side; the queries decide the number of rows.

    Keys and values of another number of rows are cut to it, as every attention of ComfyUI does: HyperTile tiles only
    the queries and relies on that.
    """
    rows = len(q)
    parts = (part.reshape(rows, -1, heads, part.shape[-1] // heads).transpose(1, 2) for part in (q, k, v))
    return attend(*parts).transpose(1, 2).reshape(rows, q.shape[1], -1)


def _per_frame(context: Tensor, rows: int) -> Tensor:
    """Return a row of the context for every frame, from that or from one row per clip."""
    return context if len(context) == rows else context.repeat_interleave(rows // len(context), 0)
