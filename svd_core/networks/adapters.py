"""Adapters in a pass of the UNet: each clip's own hooks, also where several clips share the pass."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..condition import Adapter, PassInputs
from .hooks import AttentionFunction, BlockHooks, Chain, Hooks, Place, kinds_of


def adapter_hooks(adapters: Sequence[Sequence[Adapter]], inputs: PassInputs, num_frames: int) -> Hooks:
    """Return the hooks of the adapters of every clip in a pass; `inputs` are those of all its clips, clip-major."""
    clips = []
    for index, own in enumerate(adapters):
        rows = slice(index * num_frames, (index + 1) * num_frames)
        x, c_noise, context, vector, depth = inputs
        # Several clips bring a context each, or one tensor with the rows of all.
        tokens = context[rows] if isinstance(context, Tensor) else context[index]
        seen = PassInputs(x[rows], c_noise[rows], tokens, vector[rows], depth)
        made = [adapter.hooks(seen) for adapter in own]
        clips.append(made[0] if len(made) == 1 else Chain(made))
    return clips[0] if len(clips) == 1 else PerClip(clips)


class PerClip(Hooks):
    """Hooks of each clip of a pass, on the rows of that clip only. They must keep every skip."""

    def __init__(self, clips: Sequence[Hooks]) -> None:
        self.clips = list(clips)
        self.uses_embedding = any(clip.uses_embedding for clip in self.clips)

    def start(self, x: Tensor, num_frames: int) -> None:
        for clip, part in zip(self.clips, x.chunk(len(self.clips)), strict=True):
            clip.start(part, num_frames)

    def embedding(self, embedding: Tensor) -> Tensor:
        return self._each(Hooks.embedding, embedding)

    def enter(self, place: Place) -> None:
        for clip in self.clips:
            clip.enter(place)

    def after_input(self, index: int, h: Tensor) -> Tensor:
        return self._each(Hooks.after_input, h, index)

    def after_skip(self, index: int, h: Tensor) -> Tensor:
        return self._each(Hooks.after_skip, h, index)

    def after_middle(self, h: Tensor, embedding: Tensor | None) -> Tensor:
        if embedding is None:
            return self._joined([clip.after_middle(part, None) for clip, part in self._rows(h)])
        parts = zip(self._rows(h), embedding.chunk(len(self.clips)), strict=True)
        return self._joined([clip.after_middle(part, own) for (clip, part), own in parts])

    def skip(self, index: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        pairs = zip(self._rows(h), skip.chunk(len(self.clips)), strict=True)
        taken = [clip.skip(index, part, own) for (clip, part), own in pairs]
        return torch.cat([h for h, _ in taken]), torch.cat([skip for _, skip in taken])

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        own = (shape[0] // len(self.clips), *shape[1:])
        blocks = [clip.transformer(own) for clip in self.clips]
        return None if all(block is None for block in blocks) else BlocksPerClip(blocks)

    def leave_transformer(self) -> None:
        for clip in self.clips:
            clip.leave_transformer()

    def _rows(self, h: Tensor) -> list[tuple[Hooks, Tensor]]:
        return list(zip(self.clips, h.chunk(len(self.clips)), strict=True))

    def _each(self, method: Callable, h: Tensor, *before) -> Tensor:
        if all(getattr(type(clip), method.__name__) is method for clip in self.clips):
            return h  # nothing to do, and nothing to copy
        return self._joined([getattr(clip, method.__name__)(*before, part) for clip, part in self._rows(h)])

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts)


class BlocksPerClip(BlockHooks):
    """Hooks of one transformer for each clip of a pass; rows are clip-major in both of its blocks."""

    def __init__(self, clips: Sequence[BlockHooks | None]) -> None:
        self.kinds = kinds_of([clip for clip in clips if clip is not None])
        self.clips = [clip or BlockHooks() for clip in clips]

    def begin(self, kind: str, heads: int, head_width: int) -> None:
        for clip in self.clips:
            clip.begin(kind, heads, head_width)

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = zip(self.clips, *(x.chunk(len(self.clips)) for x in (query, key, value)), strict=True)
        made = [clip.inputs(which, *own) for clip, *own in parts]
        return tuple(torch.cat(rows) for rows in zip(*made, strict=True))

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        parts = zip(self.clips, *(x.chunk(len(self.clips)) for x in (q, k, v)), strict=True)
        return torch.cat([clip.attend(which, *own, heads, attention) for clip, *own in parts])

    def output(self, which: int, x: Tensor) -> Tensor:
        return torch.cat([clip.output(which, part) for clip, part in zip(self.clips, self._chunks(x), strict=True)])

    def between(self, x: Tensor) -> Tensor:
        return torch.cat([clip.between(part) for clip, part in zip(self.clips, self._chunks(x), strict=True)])

    def _chunks(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(len(self.clips))
