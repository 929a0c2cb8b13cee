"""Measure the peak bytes of a computation on any device, ask for free memory, and recognise out-of-memory errors."""

import weakref

import psutil
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class _FusedAttention(TorchFunctionMode):
    """Replace attention on the meta device, which would store every score; real devices use a fused kernel."""

    def __init__(self, owner: "PeakMemory"):
        super().__init__()
        self.owner = owner

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention and args[0].is_meta:
            out = torch.empty_like(args[0])  # flash attention also uses the layout of the queries
            self.owner.count([*args[:3], out])
            return out
        return function(*args, **(kwargs or {}))


class PeakMemory(TorchDispatchMode):
    """Count the bytes of tensors created inside the `with` block that are alive at the same time.

    Tensors created before the block, such as weights and inputs, are not counted. On the meta device this measures a
    real-size network without using memory. Workspaces that a kernel allocates and frees itself are not seen.

    live: bytes alive now. peak: highest value of `live` so far. operations: number of kernels that ran, in-place ones
    included and views excluded. moved: bytes that these kernels read and write.
    """

    def __init__(self):
        super().__init__()
        self.live = 0
        self.peak = 0
        self.operations = 0
        self.moved = 0
        self._seen: set[int] = set()
        self._attention = _FusedAttention(self)

    def __enter__(self):
        self._attention.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._attention.__exit__(*exception)

    def count(self, tensors: list[torch.Tensor]) -> None:
        """Count a kernel that reads or writes these tensors; a row that is repeated by its strides is read once."""
        self.operations += 1
        self.moved += sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)

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
            self.count([*inputs, *outputs])
        for x in outputs:
            self._track(x, known)
        return out


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that a stage may allocate on `device` now, or None if that is unknown.

    CUDA: free memory of the card plus what torch has cached. MPS: what Apple recommends, less what torch uses, at most
    what is available without swapping. CPU: memory available without swapping. A tenth is left for what estimates miss:
    workspaces of kernels and fragmentation.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    elif device.type == "mps":
        used = torch.mps.current_allocated_memory()
        cached = torch.mps.driver_allocated_memory() - used
        free = min(torch.mps.recommended_max_memory() - used, psutil.virtual_memory().available + cached)
    elif device.type == "cpu":
        free = psutil.virtual_memory().available
    else:
        return None
    return int(0.9 * free)


def release_cached() -> None:
    """Return the memory that torch has cached on graphics devices to the system."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


OUT_OF_MEMORY_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows
    "std::bad_alloc",
    "MPS backend out of memory",
    "Invalid buffer size",  # one tensor larger than Apple's limit
    "CUDA error: out of memory",  # outside PyTorch's own allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HIP error: out of memory",
    "HIPBLAS_STATUS_ALLOC_FAILED",
    "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",  # Intel
)
"""Parts of the RuntimeErrors that allocators raise."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on any device."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES)
