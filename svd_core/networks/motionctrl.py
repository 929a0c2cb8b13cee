"""MotionCtrl-SVD: the camera's pose, projected into the stream of every temporal block.

Wang et al. 2024, MotionCtrl. Between self-attention and cross-attention of a temporal block, the activations and the
12 numbers of the camera's pose go through one matrix, and the cross-attention has weights of its own.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .hooks import TEMPORAL, BlockHooks, Hooks, Place

POSE_NUMBERS = 12  # rotation and translation, row by row


class CameraBlock(nn.Module):
    """The trained layers of one temporal block; names are those of the checkpoint."""

    def __init__(self, channels: int, head_channels: int, context_channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.norm2 = ops.LayerNorm(channels, **place)
        self.attn2 = Attention(channels, head_channels, context_channels, ops=ops, **place)
        self.cc_projection = ops.Linear(channels + POSE_NUMBERS, channels, **place)

    def project(self, y: Tensor, poses: Tensor, strength: Tensor | float) -> Tensor:
        """Return the activations y [S, T, C] with the poses [T, 12] projected in, blended with y by the strength."""
        own, camera = self.cc_projection.weight.to(y).split([y.shape[-1], POSE_NUMBERS], dim=1)
        constant = F.linear(poses.to(y), camera, self.cc_projection.bias.to(y))  # [T, C], the same for every pixel
        made = F.linear(y, own) + constant
        return torch.lerp(y, made, _per_frame(strength, y))

    def attend(self, y: Tensor, context: Tensor) -> Tensor:
        """Return the cross-attention of y [S, T, C] to the tokens [S, n, D] of one clip; [1, 1, C] for one token.

        One token makes it a constant, whatever the queries are (spec section 3.5).
        """
        if context.shape[1] == 1:
            return self.attn2.of_single_token(context[:1])
        return self.attn2.cross(self.norm2(y), context)


class MotionCtrl(nn.Module):
    """The camera blocks of all temporal blocks, by place."""

    def __init__(
        self, widths: Mapping[Place, int], head_channels: int, context_channels: int, *, ops=nn, device=None, dtype=None
    ):
        super().__init__()
        sizes = (head_channels, context_channels)
        place = {"ops": ops, "device": device, "dtype": dtype}
        self.widths = dict(widths)
        self.blocks = nn.ModuleDict(
            {block_name(at): CameraBlock(width, *sizes, **place) for at, width in widths.items()}
        )


def block_name(place: Place) -> str:
    """Return the name of a place in a ModuleDict, which allows no dots."""
    return f"{place[0]}_{place[1]}"


class CameraProjection(Hooks):
    """Projects the camera's poses [T, 12] into every temporal block of a pass over one clip."""

    uses_embedding = False

    def __init__(self, network: MotionCtrl, poses: Tensor, strength: Tensor | float = 1.0) -> None:
        self.network = network
        self.poses = poses
        self.strength = strength
        self._place: Place = ("input", 0)

    def enter(self, place: Place) -> None:
        self._place = place

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        return _ProjectionHooks(self.network.blocks[block_name(self._place)], self.poses, self.strength)


class _ProjectionHooks(BlockHooks):
    kinds = (TEMPORAL,)

    def __init__(self, block: CameraBlock, poses: Tensor, strength: Tensor | float) -> None:
        self.block, self.poses, self.strength = block, poses, strength
        self._stream: Tensor | None = None
        self._cross: Tensor | None = None

    def between(self, x: Tensor) -> Tensor:
        self._stream = self.block.project(x, self.poses, self.strength)
        return self._stream

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if which == 2:
            self._cross = self.block.attend(self._stream, key).expand_as(query)
            self._stream = None
        return query, key, value

    def output(self, which: int, x: Tensor) -> Tensor:
        return x if which == 1 else self._cross


def _per_frame(strength: Tensor | float, y: Tensor) -> Tensor | float:
    """Return a strength for y [S, T, C]: a number, or [T] values as [T, 1]."""
    return strength.to(y).reshape(-1, 1) if isinstance(strength, Tensor) else strength
