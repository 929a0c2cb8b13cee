"""The spatio-temporal transformer of the UNet: a spatial block, a temporal block, a blend (spec section 3.4)."""

import torch
from torch import Tensor, nn

from .attention import Attention, FeedForward
from .embedding import sinusoidal_embedding
from .layers import GROUPS, Blend, accumulate


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
        """x: [N, S, C], owned by the caller; context: [N, n, D]."""
        x = accumulate(x, self.attn1.spatial(self.norm1(x)))
        if context.shape[1] == 1:
            x = accumulate(x, self.attn2.of_single_token(context))
        else:
            x = accumulate(x, self.attn2.cross(self.norm2(x), context))
        return self.ff.add_to(x, self.norm3)


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

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x: [B, T, S, C], owned by the caller; context: [B, n, D], the tokens of frame 0 of each video (spec section
        3.5).
        """
        x = self.ff_in.add_to(x, self.norm_in)
        x = accumulate(x, self.attn1.temporal(self.norm1(x)))
        if context.shape[1] == 1:
            x = accumulate(x, self.attn2.of_single_token(context)[:, :, None])  # [B, 1, 1, C]
        else:
            # Every pixel and frame of a video attends to the same tokens, so they form one long row of queries.
            queries = self.norm2(x).flatten(1, 2)  # [B, T*S, C]
            x = accumulate(x, self.attn2.cross(queries, context).reshape(x.shape))
        return self.ff.add_to(x, self.norm3)


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

    def forward(self, x: Tensor, context: Tensor, num_frames: int, image_only: Tensor | None = None) -> Tensor:
        """x: [B*T, C, H, W]; context: [B*T, n, D]; image_only: [B*T] or None. Returns [B*T, C, H, W]."""
        height, width = x.shape[-2:]
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B*T, S, C]
        tokens = self.transformer_blocks[0](self.proj_in(tokens), context)

        positions = sinusoidal_embedding(torch.arange(num_frames, device=x.device), self.channels)
        positions = self.time_pos_embed(positions.to(tokens.dtype))  # [T, C]
        clips = tokens.unflatten(0, (-1, num_frames))  # [B, T, S, C]
        first_frame = context.unflatten(0, (-1, num_frames))[:, 0]  # [B, n, D]
        mixed = self.time_stack[0](clips + positions[:, None], first_frame).flatten(0, 1)  # [B*T, S, C]

        weight = self.time_mixer.temporal_weight(tokens, image_only)
        tokens = torch.lerp(tokens, mixed, weight)
        out = self.proj_out(tokens).transpose(1, 2).unflatten(2, (height, width))  # [B*T, C, H, W]
        return x + out
