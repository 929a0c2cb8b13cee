"""Whether an error says that memory ran out: PyTorch has a class for it, but not every allocator raises that one."""

import torch

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
