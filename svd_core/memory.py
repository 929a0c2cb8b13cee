"""Measure the peak bytes of a stage on any device, the meta device included; ask for free memory; spot shortages."""

import os
import weakref

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention falls back to a form that stores every score; real devices use a fused kernel."""

    def __init__(self, owner: "PeakMemory"):
        super().__init__()
        self.owner = owner

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention and args[0].is_meta:
            self.owner.operations += 1
            return torch.empty_like(args[0])  # laid out as the queries, as flash attention does
        return function(*args, **(kwargs or {}))


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors made inside the `with` block that are alive at the same time.

    Weights and inputs made before the block are not counted. On the meta device this measures a real-size network
    without any memory; what a kernel allocates for itself and gives back (workspaces) is not seen. `peak` is the
    highest count so far, `operations` how many kernels ran: everything that writes, in place too, but no views.
    """

    def __init__(self):
        super().__init__()
        self.live = 0
        self.peak = 0
        self.operations = 0
        self._seen: set[int] = set()
        self._attention = _FusedAttention(self)

    def __enter__(self):
        self._attention.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._attention.__exit__(*exception)

    def _release(self, key: int, size: int) -> None:
        self.live -= size
        self._seen.discard(key)

    def _track(self, tensor: torch.Tensor, known: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in known or key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        weakref.finalize(storage, self._release, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        inputs = [x for x in tree_flatten((args, kwargs or {}))[0] if isinstance(x, torch.Tensor)]
        known = {x.untyped_storage()._cdata for x in inputs}
        out = function(*args, **(kwargs or {}))
        outputs = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
        writes = any(given.alias_info is not None and given.alias_info.is_write for given in function._schema.returns)
        makes = any(x.untyped_storage()._cdata not in known for x in outputs)
        if (writes or makes) and "empty" not in function._schema.name:
            self.operations += 1
        for x in outputs:
            self._track(x, known)
        return out


def available_bytes(device: torch.device) -> int | None:
    """Bytes that a stage may take on `device` right now, None where the system does not tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    elif device.type == "cpu" and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return None
    # A tenth stays for what an estimate cannot know: workspaces of kernels and fragmentation.
    return int(0.9 * free)


SENTENCES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows
    "std::bad_alloc",
    "MPS backend out of memory",
    "CUDA error: out of memory",  # outside PyTorch's own allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of what allocators say in a RuntimeError."""


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sentence in str(error) for sentence in SENTENCES)
