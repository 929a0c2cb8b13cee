"""Ctrl-C and SIGTERM: both end a command with a message after it has cleaned up, with exit codes of their own."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that everything handles like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the main thread when SIGTERM arrives, for as long as the block lasts."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Yield a list to which the first Ctrl-C or SIGTERM appends its number; the second one interrupts as usual."""
    requests: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, ask)
    try:
        yield requests
    finally:
        restore()


def is_terminated(error: BaseException | None) -> bool:
    """Return whether SIGTERM led to an exception, also where another message took the place of the first."""
    while error is not None and not isinstance(error, Terminated):
        error = error.__cause__ or error.__context__
    return error is not None
