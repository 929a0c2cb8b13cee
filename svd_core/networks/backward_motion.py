"""Generative Inbetweening: a clip seen from its end, with the temporal attention of the same clip seen from its start.

Wang et al. 2024, Generative Inbetweening. The values and output layers of the temporal self-attention are fine-tuned
for motion that runs backward. The attention itself is taken from the forward pass, with both of its axes reversed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .hooks import TEMPORAL, AttentionFunction, BlockHooks, Hooks, Place
from .motionctrl import block_name

Maps = dict[Place, Tensor]
"""The temporal self-attention [S, heads, T, T] of every transformer in one pass over one clip."""


class ValueDifference(nn.Module):
    """What fine-tuning added to the value and output layers of one temporal self-attention."""

    def __init__(self, channels: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.to_v = ops.Linear(channels, channels, bias=False, **place)
        self.to_out = nn.ModuleList([ops.Linear(channels, channels, **place)])


class BackwardMotion(nn.Module):
    """The differences of all temporal blocks, by place."""

    def __init__(self, widths: Mapping[Place, int], *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.widths = dict(widths)
        place = {"ops": ops, "device": device, "dtype": dtype}
        self.blocks = nn.ModuleDict({block_name(at): ValueDifference(width, **place) for at, width in widths.items()})


class KeepMaps(Hooks):
    """Keeps the temporal self-attention of a pass over one clip in `maps`; the pass itself is unchanged."""

    uses_embedding = False

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self._place: Place = ("input", 0)

    def enter(self, place: Place) -> None:
        self._place = place

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        return _KeepingHooks(self.maps, self._place)


class TurnedMaps(Hooks):
    """Runs the fine-tuned layers of a pass over the reversed clip, with the kept attention of the forward pass."""

    uses_embedding = False

    def __init__(self, network: BackwardMotion, maps: Maps) -> None:
        self.network = network
        self.maps = maps
        self._place: Place = ("input", 0)

    def enter(self, place: Place) -> None:
        self._place = place

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        # Taken out, because each map is used once and all together are large.
        return _TurningHooks(self.network.blocks[block_name(self._place)], self.maps.pop(self._place))


class _KeepingHooks(BlockHooks):
    kinds = (TEMPORAL,)

    def __init__(self, maps: Maps, place: Place) -> None:
        self.maps, self.place = maps, place

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        if which == 2:
            return attention(q, k, v, heads)
        q, k = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k))  # [S, heads, T, D]
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        self.maps[self.place] = torch.softmax(scores.float(), dim=-1).to(v.dtype)
        return _weighted(self.maps[self.place], v)


class _TurningHooks(BlockHooks):
    kinds = (TEMPORAL,)

    def __init__(self, block: ValueDifference, kept: Tensor) -> None:
        self.block, self.kept = block, kept
        self._value: Tensor | None = None
        self._attended: Tensor | None = None

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self._value = value if which == 1 else None
        return query, key, value

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        if which == 2:
            return attention(q, k, v, heads)
        tuned = v + self.block.to_v(self._value)
        self._attended = _weighted(self.kept.flip(2, 3), tuned)
        return self._attended

    def output(self, which: int, x: Tensor) -> Tensor:
        return x + self.block.to_out[0](self._attended) if which == 1 else x


def _weighted(maps: Tensor, v: Tensor) -> Tensor:
    """Return the attention of probabilities [S, heads, T, T] to values [S, T, C], with the heads side by side."""
    return (maps @ v.unflatten(2, (maps.shape[1], -1)).transpose(1, 2)).transpose(1, 2).flatten(2)
