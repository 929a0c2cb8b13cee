"""Results that stay the same from step to step, kept until a weight or an input they came from changes."""

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

ENTRIES = 4
"""Results kept per purpose: the two branches of guidance, twice."""


class Kept:
    """Results of a module that do not depend on the step.

    A result is used again only while every tensor it came from is the same memory with the same version, so that
    loading, patching or training weights gives a new one. What is written through `.data` has no version: call
    `forget` after that. Copies and pickles of a module start empty.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, deque] = {}

    def __reduce__(self):
        return (Kept, ())

    def forget(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def get(self, sources: Sequence[Tensor], purpose: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`, or what it gave for the same `purpose` and `sources`. Never kept where gradients are wanted."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return compute()
        if torch.is_inference_mode_enabled() or any(map(torch.is_inference, sources)):
            return compute()
        stamps = [_stamp(source) for source in sources]
        entries = self._entries.setdefault(purpose, deque(maxlen=ENTRIES))
        for known, result in entries:
            if known == stamps:
                return result
        result = compute()
        entries.append((stamps, result))
        return result


def _stamp(tensor: Tensor) -> tuple:
    # A weak reference: while it lives no other tensor can have the same memory, and it keeps nothing alive.
    storage = weakref.ref(tensor.untyped_storage())
    return (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
