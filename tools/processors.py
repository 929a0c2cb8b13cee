"""Run tests under every instruction set and thread count that this processor supports, and print a table.

    python -m tools.processors [--threads 1 2] [pytest arguments]

Kernels of torch, oneDNN and MKL differ between processors, and they round differently. A test that is equal only by
luck on one of them fails here. Instruction sets that the processor lacks are left out. Without pytest arguments the
whole suite runs, once per line of the table. The exit code is 1 if a run fails.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ("DEFAULT", "AVX2", "AVX512")
"""Instruction sets of torch's own kernels, from the smallest to the largest."""

ONEDNN = {"DEFAULT": "SSE41", "AVX2": "AVX2", "AVX512": "AVX512_CORE"}
MKL = {"DEFAULT": "SSE4_2", "AVX2": "AVX2", "AVX512": "AVX512"}


@dataclass(frozen=True)
class Processor:
    """One setting: an instruction set, or "native" for what the libraries choose themselves, and a thread count."""

    level: str
    threads: int

    def environment(self) -> dict[str, str]:
        """Return the variables that torch, oneDNN, MKL and OpenMP read when they start."""
        chosen = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        if self.level != "native":
            chosen |= {
                "ATEN_CPU_CAPABILITY": self.level.lower(),
                "ONEDNN_MAX_CPU_ISA": ONEDNN[self.level],
                "MKL_ENABLE_INSTRUCTIONS": MKL[self.level],
            }
        return chosen


@dataclass(frozen=True)
class Outcome:
    """What pytest reported for one setting."""

    processor: Processor
    code: int
    summary: str
    failures: tuple[str, ...]
    seconds: float


def supported_levels(capability: str) -> tuple[str, ...]:
    """Return "native" and the instruction sets up to `capability`, as torch names it; others have only "native"."""
    return ("native", *(LEVELS[: LEVELS.index(capability) + 1] if capability in LEVELS else ()))


def run_tests(processor: Processor, arguments: list[str]) -> Outcome:
    """Run pytest with `arguments` in a separate process under one setting."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **processor.environment()}, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
    failures = tuple(line for line in lines if re.match(r"(FAILED|ERROR) ", line))
    return Outcome(processor, done.returncode, lines[-1].strip("= "), failures, time.perf_counter() - start)


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as aligned columns, followed by every failure."""
    rows = [("instructions", "threads", "result", "seconds", "pytest")]
    for outcome in outcomes:
        result = "passed" if outcome.code == 0 else "FAILED"
        processor = outcome.processor
        rows.append((processor.level, str(processor.threads), result, f"{outcome.seconds:.0f}", outcome.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for outcome in outcomes:
        where = f"{outcome.processor.level}, threads {outcome.processor.threads}"
        lines += [f"{where}: {failure}" for failure in outcome.failures]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run every setting, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    options, selection = parser.parse_known_args(arguments)
    outcomes = []
    for level in supported_levels(torch.backends.cpu.get_cpu_capability()):
        for threads in options.threads:
            outcomes.append(run_tests(Processor(level, threads), selection))
            print(table(outcomes[-1:]).split("\n", 1)[1], flush=True)
    print(f"\n{table(outcomes)}")
    return int(any(outcome.code for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
