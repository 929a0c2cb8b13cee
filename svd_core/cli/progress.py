"""Progress on stderr while a command works."""

import sys
import time

from ..sampling.solvers import Step


class Progress:
    """One line on stderr that counts; where stderr is no terminal, a line for every tenth."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def count(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done, 1 to `total`."""
        if self.quiet:
            return
        if self.live:
            # The end of the line is erased: a shorter text would leave the tail of a longer one.
            print(f"\r{label} {done}/{total}\x1b[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            self.say(f"{label} {done}/{total}")

    def step(self, step: Step) -> None:
        """`on_step` of `animate`."""
        self.count("step", step.index + 1, step.steps)

    def decoded(self, done: int, total: int) -> None:
        """`on_decode` of `animate`, which counts layers: of no interest, so per cent."""
        before, now = (done - 1) * 100 // total, done * 100 // total
        if now > before:
            self.count("decode %", now, 100)


def since(start: float) -> str:
    """Seconds since `time.monotonic()` was `start`, for people."""
    return f"{time.monotonic() - start:.1f} s"
