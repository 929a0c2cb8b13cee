"""Peak memory: of the GPU from torch, of a process from the kernel, in a child that does nothing else."""

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
    """Bytes of this process in memory now, mapped files included."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Highest `resident` since the start of the process or the last `reset_peak`."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Forget the peak so far, where the system lets us (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)


def over_start(case: Callable[[], object], device: torch.device) -> int:
    """Bytes that one run takes on top of what is there before it."""
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
    """Run `python -m benchmarks.MODULE WORDS` in the checkout `root` and return the JSON in its last line.

    {"error": ...} if it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        tail = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": re.sub(r"(/[^\s/:]+)+/", "", tail)[:300]}  # tables name no machine's folders
    return json.loads(lines[-1])
