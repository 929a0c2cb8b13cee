"""The spatio-temporal transformer of the UNet: a spatial block, a temporal block, a blend (spec section 3.4).

Large tensors are handed on by popping them out of lists: a name would keep their memory until the function ends.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, FeedForward
from .kernels.weights import is_plain
from .layers import GROUPS, Blend, accumulate, add_norm, norm_to_tokens, sinusoidal_embedding
from .reused_work import Kept


class SpatialBlock(nn.Module):
    """Self-attention over pixels, cross-attention to the image token, feed-forward; each with its own residual."""

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
        """x: [N, S, C], owned by the caller; context: [N, n, D], or [B, n, D] for all frames of each clip."""
        # To a single token every query attends alike, so the first attention adds the second's constant.
        constant = self.attn2.of_single_token(context) if context.shape[1] == 1 else None  # [N, B or 1, 1, C]
        if constant is not None and len(constant) > 1:
            constant = _of_frames(constant, len(x))
        update = [self.attn1.spatial(self.norm1(x), constant)]
        if constant is None:
            x, normed = add_norm(self.norm2, x, update.pop())
            update = [self.attn2.cross(normed, _of_frames(context, len(x)))]
        x, *normed = add_norm(self.norm3, x, update.pop())
        return self.ff.add_to(x, normed.pop())


def _of_frames(rows: Tensor, count: int) -> Tensor:
    """A row for each of `count` frames, from that or from one row per clip."""
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
        """x: [B, T, S, C], left as it is; positions: [T, C], added to it first; context: [B, n, D], the tokens of frame
        0 of each video (spec section 3.5). carry: leave the last bias to the caller.
        """
        bias = self.ff_in.carried_bias()
        x, *normed = add_norm(self.norm_in, x, positions[:, None], fresh=True)
        x = self.ff_in.add_to(x, normed.pop(), carry=bias is not None)
        x, *normed = add_norm(self.norm1, x, bias)
        constant = self.attn2.of_single_token(context)[:, :, None] if context.shape[1] == 1 else None  # [B, 1, 1, C]
        update = [self.attn1.temporal(normed.pop(), constant)]
        if constant is None:
            x, queries = add_norm(self.norm2, x, update.pop())
            # Every pixel and frame of a video attends to the same tokens, so they form one long row of queries.
            update = [self.attn2.cross(queries.flatten(1, 2), context).reshape(x.shape)]  # [B, T, S, C]
        x, *normed = add_norm(self.norm3, x, update.pop())
        return self.ff.add_to(x, normed.pop(), carry=carry)


class VideoTransformer(nn.Module):
    """Normalise, project to tokens, spatial block, temporal block on the frame-position-embedded tokens, blend,
    project back.
    """

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
        self._kept = Kept()

    def forward(self, x: Tensor, context: Tensor, num_frames: int, image_only: Tensor | None = None) -> Tensor:
        """x: [B*T, C, H, W], owned by the caller; context: [B*T, n, D], or [B, n, D]; image_only: [B*T] or None.
        Returns x's shape."""
        height, width = x.shape[-2:]
        tokens = self.proj_in(norm_to_tokens(self.norm, x))  # [B*T, S, C]
        tokens = self.transformer_blocks[0](tokens, context)

        clips = tokens.unflatten(0, (-1, num_frames))  # [B, T, S, C]
        positions = self._positions(num_frames, tokens)  # [T, C]
        first_frame = context[:: len(context) // len(clips)]  # [B, n, D]
        weight = self.time_mixer.temporal_weight(tokens, image_only)
        bias = self._carrying_bias(weight)
        mixed = self.time_stack[0](clips, positions, first_frame, carry=bias is not None)
        del clips
        tokens = torch.lerp(tokens, mixed.flatten(0, 1), weight)  # [B*T, S, C]
        del mixed
        out = self.proj_out(tokens) if bias is None else F.linear(tokens, self.proj_out.weight, bias)
        return accumulate(x, out.transpose(1, 2).unflatten(2, (height, width)))  # [B*T, C, H, W]

    def _carrying_bias(self, weight: Tensor) -> Tensor | None:
        """Bias of the last projection with that of the temporal path's last layer sent through blend and projection.

        A pass over all tokens is saved. None where these layers are not torch's own or the blend differs by frame.
        """
        carried, layer = self.time_stack[0].ff.carried_bias(), self.proj_out
        if carried is None or weight.numel() > 1 or not is_plain(layer):
            return None
        sources = [carried, weight, layer.weight, layer.bias]
        return self._kept.get(
            sources, "carried", lambda: F.linear(weight.reshape(1) * carried, layer.weight, layer.bias)
        )

    def _positions(self, num_frames: int, like: Tensor) -> Tensor:
        """Embedding of the frame numbers [T, C]; it depends on the weights alone."""

        def compute() -> Tensor:
            positions = sinusoidal_embedding(torch.arange(num_frames, device=like.device), self.channels)
            return self.time_pos_embed(positions.to(like.dtype))

        if not is_plain(self.time_pos_embed[0]) or not is_plain(self.time_pos_embed[2]):
            return compute()
        sources = list(self.time_pos_embed.parameters())
        return self._kept.get(sources, (num_frames, like.dtype, like.device), compute)
