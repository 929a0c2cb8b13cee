"""What happens when memory runs out: the same work in less memory, said in the log, until nothing smaller is left.

Every step gives the same result, but for the rounding of other kernels.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn

from ..memory import is_out_of_memory
from ..networks.attention import FeedForward, chunk_limit

log = logging.getLogger("svd_reel")

T = TypeVar("T")
FallbackStep = tuple[str, Callable[[], None]]
"""What is changed, in words, and the change."""

SMALLEST_CHUNK = 2**18


def retrying(work: Callable[[], T], rungs: Iterable[FallbackStep]) -> T:
    """`work()`, again after each change of `rungs` while memory runs out; then the error is raised as it is."""
    rungs = iter(rungs)
    while True:
        try:
            return work()
        except Exception as error:
            rung = next(rungs, None) if is_out_of_memory(error) else None
            if rung is None:
                raise
        # Outside the handler: the error holds the frames, and with them the tensors, of the failed attempt.
        words, change = rung
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        change()
        log.warning("memory ran out; going on with %s", words)


def limit_chunks(unet: nn.Module, numbers: int | None) -> None:
    """Let every feed-forward layer take at most so many numbers at a time (None: CHUNK_ELEMENTS)."""
    for module in unet.modules():
        if isinstance(module, FeedForward):
            module.chunk_elements = numbers


def smaller_chunks(unet: nn.Module, device: torch.device) -> Iterable[FallbackStep]:
    """Rungs that quarter the feed-forward pieces of a network several times; none where they are small, as on a CPU."""
    current = next((m.chunk_elements for m in unet.modules() if isinstance(m, FeedForward)), None)
    numbers = chunk_limit(device, current) // 4
    while numbers >= SMALLEST_CHUNK:
        yield f"feed-forward pieces of {numbers} numbers", lambda numbers=numbers: limit_chunks(unet, numbers)
        numbers //= 4
