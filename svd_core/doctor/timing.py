"""Interleaved timing (A B C A B C ...), so that a slow minute of the machine affects all cases equally."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

Case = Callable[[], object]

SPIN_SECONDS = 0.5
QUIET = 0.9
"""Share of the processor time that we must get for wall time to be used."""


class Rounds(NamedTuple):
    """How often cases are run, and the clock that counts: "wall", or "cpu" for processor time."""

    count: int
    clock: str = "wall"


@dataclass
class Times:
    """Seconds of one case per run: wall clock (on a GPU from its events) and processor time of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def seconds(self, clock: str) -> list[float]:
        """Return the runs by `clock`, "wall" or "cpu"."""
        return self.wall if clock == "wall" else self.cpu

    def median(self, clock: str) -> float:
        """Return the median of the runs."""
        return statistics.median(self.seconds(clock))

    def spread(self, clock: str) -> float:
        """Return the interquartile range of the runs; below three runs, their full range."""
        runs = self.seconds(clock)
        if len(runs) < 3:
            return max(runs) - min(runs)
        low, _, high = statistics.quantiles(runs, n=4, method="inclusive")
        return high - low


@torch.no_grad()
def interleave(cases: Mapping[str, Case], rounds: int, device: torch.device, warmups: int = 1) -> dict[str, Times]:
    """Run every case once per round, in turn, and return their times without the warm-up rounds."""
    times = {name: Times() for name in cases}
    for index in range(warmups + rounds):
        for name, case in cases.items():
            wall, cpu = _once(case, device)
            if index >= warmups:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
    return times


def _once(case: Case, device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        cpu = time.process_time()
        start.record()
        case()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000, time.process_time() - cpu
    wall, cpu = time.perf_counter(), time.process_time()
    case()
    return time.perf_counter() - wall, time.process_time() - cpu


def share_of_cores() -> float:
    """Return the share of the requested processor time that we get, 0..1, measured over half a second."""
    a = torch.rand(512, 512)
    wall, own = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < SPIN_SECONDS:
        a @ a
    return min(1.0, (time.process_time() - own) / (time.perf_counter() - wall) / torch.get_num_threads())


def clock_of(device: torch.device, share: float) -> str:
    """Return the clock to time by: "wall", or "cpu" on a busy processor. share: see `share_of_cores`."""
    return "cpu" if device.type == "cpu" and share < QUIET else "wall"


@contextmanager
def stopwatch(device: torch.device, clock: str) -> Iterator[list[float]]:
    """Append the seconds of the block to the yielded list: by `clock` on the CPU, by the wall clock on a GPU."""
    seconds: list[float] = []
    read = time.process_time if device.type != "cuda" and clock == "cpu" else time.perf_counter
    _wait(device)
    start = read()
    yield seconds
    _wait(device)
    seconds.append(read() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative L2 distance."""
    actual, expected = actual.double().cpu(), expected.double().cpu()
    return ((actual - expected).norm() / expected.norm()).item()


@torch.no_grad()
def flops(case: Case) -> float:
    """Return the FLOP of one run, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        case()
    return float(counter.get_total_flops())
