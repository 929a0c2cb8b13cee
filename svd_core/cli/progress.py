"""Progress on stderr while a command works: what is done, the rate, and the time that is left."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from ..sampling.solvers import Step

LINE = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
"""A line where stderr is a file or a pipe; on a terminal tqdm draws its bar."""


class Progress:
    """Messages and progress bars of one command; on leaving the `with` block an open bar ends with its line.

    On a terminal a bar is redrawn in place. Elsewhere, as in a log file, every tenth of the work is a line. A quiet
    one prints nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self._work: tuple[str, int] | None = None  # label and total of what is counted now
        self._first = self._done = 0
        self._start = 0.0
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def count(self, label: str, done: int, total: int, *, unit: str = "it", note: str = "") -> None:
        """Show that `done` of `total` units are done, 1 to `total`; `note` follows the numbers."""
        if self.quiet:
            return
        if self._work != (label, total) or done <= self._done:
            self._open(label, done, total, unit)
        before, self._done = self._done, done
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif done * 10 // total > before * 10 // total:
            passed = time.monotonic() - self._start
            shown = {"prefix": label, "unit": unit, "postfix": note, "initial": self._first, "bar_format": LINE}
            self.say(tqdm.format_meter(done, total, passed, **shown))
        if done == total:
            self._close()

    def on_step(self, step: Step) -> None:
        """Show the sampling steps; the callback of `animate`."""
        self.count("sampling", step.index + 1, step.steps, unit="step")

    def on_decode(self, done: int, total: int) -> None:
        """Show how much is decoded; the callback of `animate`, which counts layers of chunks."""
        before, now = (done - 1) * 100 // total, done * 100 // total
        if now > before:
            self.count("decoding", now, 100, unit="%")

    def _open(self, label: str, done: int, total: int, unit: str) -> None:
        self._close()
        # What came before the first call took an unknown time and is left out of the rate.
        self._work, self._first, self._done, self._start = (label, total), done, done - 1, time.monotonic()
        if self.live:
            self._bar = tqdm(desc=label, initial=done, total=total, unit=unit, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._work, self._bar = None, None


def since(start: float) -> str:
    """Return the seconds since `time.monotonic()` was `start` as text, such as "3.2 s"."""
    return f"{time.monotonic() - start:.1f} s"
