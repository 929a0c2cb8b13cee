"""Peak memory: on a GPU from torch, on the CPU from the system, in a child process that does nothing else."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def resident() -> int:
    """Return the resident bytes of this process, mapped files included."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Return the highest `resident` since the start of the process or the last `reset_peak`."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Reset the peak, where the system supports it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)


def over_start(case: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that one run needs on top of what was allocated before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        case()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    reset_peak()
    before = resident()
    case()
    return peak() - before


def in_child(module: str, *words: str, root: Path = ROOT, timeout: float = 3600) -> dict:
    """Run `python -m benchmarks.MODULE WORDS` in the checkout `root` and return the JSON of its last line.

    Returns {"error": ...} if it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        tail = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": re.sub(r"(/[^\s/:]+)+/", "", tail)[:300]}  # no local folders in the tables
    return json.loads(lines[-1])
