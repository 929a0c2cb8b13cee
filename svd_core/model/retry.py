"""Retries after a shortage of memory: the same work in smaller steps, each logged, until no smaller step is left.

A fallback step changes how the work is cut, not its result, apart from the rounding of other kernels.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple

import torch
from torch import nn

from ..memory import is_out_of_memory, release_cached
from ..networks.activation_bytes import SCORE_BYTES
from ..networks.attention import Attention, FeedForward, chunk_limit
from ..networks.kernels.attention_backends import may_store_scores

log = logging.getLogger("svd_reel")

SMALLEST_CHUNK = 2**18
"""Numbers in the smallest feed-forward chunk: below it a chunk no longer decides the peak of a pass."""


class FallbackStep(NamedTuple):
    """One way to need less memory: its description for the log, and the function that applies it."""

    description: str
    apply: Callable[[], None]


class Attempt:
    """One attempt in a `with` block; it swallows a shortage of memory while a fallback step is left."""

    def __init__(self, steps: Iterator[FallbackStep]) -> None:
        self._steps = steps
        self.fallback: FallbackStep | None = None

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception) and is_out_of_memory(error):
            self.fallback = next(self._steps, None)
        return self.fallback is not None


def attempts(steps: Iterable[FallbackStep]) -> Iterator[Attempt]:
    """Yield attempts until one succeeds, applying one step of `steps` after each shortage of memory.

        for attempt in attempts(steps):
            with attempt:
                return work()

    `steps` may be a generator: it runs only after a shortage. Other errors, and the shortage after the last step, are
    raised unchanged.
    """
    steps = iter(steps)
    while True:
        attempt = Attempt(steps)
        yield attempt
        if attempt.fallback is None:
            return
        # The error is gone by now, and with it the frames and tensors of the failed attempt.
        release_cached()
        attempt.fallback.apply()
        log.warning("out of memory; retrying with %s", attempt.fallback.description)


def limit_chunks(unet: nn.Module, numbers: int | None) -> None:
    """Limit the numbers that each feed-forward layer computes at a time (None: CHUNK_ELEMENTS)."""
    for module in unet.modules():
        if isinstance(module, FeedForward):
            module.chunk_elements = numbers


def limit_scores(unet: nn.Module, size: int | None) -> None:
    """Limit the bytes of attention scores that each layer keeps at a time (None: SCORE_BYTES)."""
    for module in unet.modules():
        if isinstance(module, Attention):
            module.score_bytes = size


def smaller_chunks(unet: nn.Module, device: torch.device) -> Iterator[FallbackStep]:
    """Yield steps that each quarter the feed-forward chunks of a network; none where they are small, as on a CPU.

    Where attention keeps its scores (no fused kernel), these are quartered with the chunks.
    """
    current = next((m.chunk_elements for m in unet.modules() if isinstance(m, FeedForward)), None)
    scores = next((m.score_bytes for m in unet.modules() if isinstance(m, Attention)), None) or SCORE_BYTES
    numbers = chunk_limit(device, current) // 4
    while numbers >= SMALLEST_CHUNK:
        if may_store_scores(device):
            scores //= 4
            yield FallbackStep(
                f"feed-forward chunks of {numbers} numbers and attention scores of {scores >> 20} MiB",
                lambda numbers=numbers, scores=scores: (limit_chunks(unet, numbers), limit_scores(unet, scores)),
            )
        else:
            yield FallbackStep(
                f"feed-forward chunks of {numbers} numbers", lambda numbers=numbers: limit_chunks(unet, numbers)
            )
        numbers //= 4
