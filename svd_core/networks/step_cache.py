"""A cache for results that stay the same from one sampling step to the next.

Modules keep one `StepCache` each. A cached result is valid only while every tensor it was computed from is the same
memory at the same version, so loading, patching or training weights invalidates it.
"""

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

ENTRIES = 4
"""Results cached per purpose: conditional and unconditional pass, for two conditions."""


class StepCache:
    """Results of one module that do not depend on the sampling step.

    Writing into `parameter.data` does not change the version and would leave a stale result; assign a new tensor or
    write to the parameter itself. Copied and pickled modules start with an empty cache.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        self.entries = entries
        self._entries: dict[Hashable, deque] = {}

    def __reduce__(self):
        return (StepCache, (self.entries,))

    def get(self, sources: Sequence[Tensor], purpose: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return the cached result for this `purpose` and these `sources`, or call `compute` and cache its result.

        Nothing is cached while gradients are enabled, under `torch.compile`, or for inference tensors, which have no
        version.
        """
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return compute()
        if torch.is_inference_mode_enabled() or any(map(torch.is_inference, sources)):
            return compute()
        stamps = [_stamp(source) for source in sources]
        entries = self._entries.setdefault(purpose, deque(maxlen=self.entries))
        for cached_stamps, result in entries:
            if cached_stamps == stamps:
                return result
        result = compute()
        entries.append((stamps, result))
        return result


def _stamp(tensor: Tensor) -> tuple:
    """Identify a tensor's memory, layout and version."""
    # A weak reference does not keep the storage alive. While it is alive, no other tensor can have the same memory.
    storage = weakref.ref(tensor.untyped_storage())
    return (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
