"""The spatio-temporal transformer of the UNet: a spatial block, a temporal block, a blend (spec section 3.4).

Large tensors are passed on by popping them from lists; a local name would keep their memory until the function returns.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention, FeedForward
from .kernels.weights import is_plain
from .layers import GROUPS, Blend, accumulate, add_norm, norm_to_tokens, sinusoidal_embedding
from .step_cache import StepCache


class SpatialBlock(nn.Module):
    """Self-attention over pixels, cross-attention to the image token and feed-forward, each with its own residual."""

    def __init__(self, channels: int, head_channels: int, context_channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm1 = ops.LayerNorm(channels, **place)
        self.attn1 = Attention(channels, head_channels, ops=ops, **place)
        self.norm2 = ops.LayerNorm(channels, **place)
        self.attn2 = Attention(channels, head_channels, context_channels, ops=ops, **place)
        self.norm3 = ops.LayerNorm(channels, **place)
        self.ff = FeedForward(channels, ops=ops, **place)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the block's output [N, S, C].

        x: [N, S, C], owned by the caller. context: [N, n, D], or [B, n, D] with one row per clip.
        """
        # Cross-attention to one token gives every query the same result, so the first attention adds it as a constant.
        constant = self.attn2.of_single_token(context) if context.shape[1] == 1 else None  # [N, B or 1, 1, C]
        if constant is not None and len(constant) > 1:
            constant = _row_per_frame(constant, len(x))
        update = [self.attn1.spatial(self.norm1(x), constant)]
        if constant is None:
            x, normed = add_norm(self.norm2, x, update.pop())
            update = [self.attn2.cross(normed, _row_per_frame(context, len(x)))]
        x, *normed = add_norm(self.norm3, x, update.pop())
        return self.ff.add_to(x, normed.pop())


def _row_per_frame(rows: Tensor, count: int) -> Tensor:
    """Return one row for each of `count` frames, repeating rows that are per clip."""
    return rows if len(rows) == count else rows.repeat_interleave(count // len(rows), 0)


class TemporalBlock(nn.Module):
    """Feed-forward, self-attention over frames, cross-attention to the first frame's token, feed-forward."""

    def __init__(self, channels: int, head_channels: int, context_channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm_in = ops.LayerNorm(channels, **place)
        self.ff_in = FeedForward(channels, ops=ops, **place)
        self.norm1 = ops.LayerNorm(channels, **place)
        self.attn1 = Attention(channels, head_channels, ops=ops, **place)
        self.norm2 = ops.LayerNorm(channels, **place)
        self.attn2 = Attention(channels, head_channels, context_channels, ops=ops, **place)
        self.norm3 = ops.LayerNorm(channels, **place)
        self.ff = FeedForward(channels, ops=ops, **place)

    def forward(self, x: Tensor, positions: Tensor, context: Tensor, *, carry: bool = False) -> Tensor:
        """Return the block's output [B, T, S, C].

        x: [B, T, S, C], not modified. positions: [T, C], added to x first. context: [B, n, D], the tokens of frame 0 of
        each clip (spec section 3.5). carry: omit the last bias, which the caller adds.
        """
        bias = self.ff_in.carried_bias()
        x, *normed = add_norm(self.norm_in, x, positions[:, None], fresh=True)
        x = self.ff_in.add_to(x, normed.pop(), carry=bias is not None)
        x, *normed = add_norm(self.norm1, x, bias)
        constant = self.attn2.of_single_token(context)[:, :, None] if context.shape[1] == 1 else None  # [B, 1, 1, C]
        update = [self.attn1.temporal(normed.pop(), constant)]
        if constant is None:
            x, queries = add_norm(self.norm2, x, update.pop())
            # All pixels and frames of a clip attend to the same tokens, so they form one sequence of queries.
            queries = rearrange(queries, "b t s c -> b (t s) c")
            update = [rearrange(self.attn2.cross(queries, context), "b (t s) c -> b t s c", t=x.shape[1])]
        x, *normed = add_norm(self.norm3, x, update.pop())
        return self.ff.add_to(x, normed.pop(), carry=carry)


class VideoTransformer(nn.Module):
    """Norm, projection to tokens, spatial block, temporal block with frame positions, blend, projection back."""

    def __init__(self, channels: int, head_channels: int, context_channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.channels = channels
        self.norm = ops.GroupNorm(GROUPS, channels, eps=1e-6, **place)
        self.proj_in = ops.Linear(channels, channels, **place)
        sizes = (channels, head_channels, context_channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(*sizes, ops=ops, **place)])
        self.time_pos_embed = nn.Sequential(
            ops.Linear(channels, 4 * channels, **place), nn.SiLU(), ops.Linear(4 * channels, channels, **place)
        )
        self.time_stack = nn.ModuleList([TemporalBlock(*sizes, ops=ops, **place)])
        self.time_mixer = Blend(**place)
        self.proj_out = ops.Linear(channels, channels, **place)
        self._cache = StepCache()

    def forward(self, x: Tensor, context: Tensor, num_frames: int, image_only: Tensor | None = None) -> Tensor:
        """Return x plus the transformer's output, [B*T, C, H, W].

        x: [B*T, C, H, W], owned by the caller. context: [B*T, n, D], or [B, n, D] with one row per clip. image_only:
        [B*T], 1 for frames that skip the temporal path, or None.
        """
        tokens = self.proj_in(norm_to_tokens(self.norm, x))  # [B*T, S, C]
        tokens = self.transformer_blocks[0](tokens, context)

        clips = rearrange(tokens, "(b t) s c -> b t s c", t=num_frames)
        positions = self._positions(num_frames, tokens)  # [T, C]
        first_frame = context[:: len(context) // len(clips)]  # [B, n, D]
        weight = self.time_mixer.temporal_weight(tokens, image_only)
        bias = self._combined_bias(weight)
        mixed = self.time_stack[0](clips, positions, first_frame, carry=bias is not None)
        del clips
        tokens = torch.lerp(tokens, rearrange(mixed, "b t s c -> (b t) s c"), weight)
        del mixed
        out = self.proj_out(tokens) if bias is None else F.linear(tokens, self.proj_out.weight, bias)
        return accumulate(x, rearrange(out, "n (h w) c -> n c h w", h=x.shape[-2]))

    def _combined_bias(self, weight: Tensor) -> Tensor | None:
        """Return the bias of `proj_out` plus the temporal path's last bias, passed through blend and projection.

        This saves a pass over all tokens. Returns None if these layers are not torch's own or the blend differs by
        frame.
        """
        carried, layer = self.time_stack[0].ff.carried_bias(), self.proj_out
        if carried is None or weight.numel() > 1 or not is_plain(layer):
            return None
        sources = [carried, weight, layer.weight, layer.bias]
        return self._cache.get(
            sources, "combined bias", lambda: F.linear(weight.reshape(1) * carried, layer.weight, layer.bias)
        )

    def _positions(self, num_frames: int, like: Tensor) -> Tensor:
        """Return the embedding of the frame numbers [T, C], which depends only on the weights."""

        def compute() -> Tensor:
            positions = sinusoidal_embedding(torch.arange(num_frames, device=like.device), self.channels)
            return self.time_pos_embed(positions.to(like.dtype))

        if not is_plain(self.time_pos_embed[0]) or not is_plain(self.time_pos_embed[2]):
            return compute()
        sources = list(self.time_pos_embed.parameters())
        return self._cache.get(sources, (num_frames, like.dtype, like.device), compute)
