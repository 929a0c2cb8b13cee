"""Describe the machine of a measurement: processor or card, matrix product rate, share of the cores we get."""

import os
import platform
import time
from importlib import metadata

import torch

SPIN_SECONDS = 0.5
QUIET = 0.9
"""Share of the processor time that we must get for wall time to be used."""


def describe(device: torch.device) -> str:
    """Return one line: processor or card, cores, versions."""
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for package in ("diffusers", "transformers"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        where = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        where = f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} cores used"
    return "; ".join([where, *versions])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def share_of_cores() -> float:
    """Return the share of the requested processor time that we get, 0..1, measured over half a second."""
    a = torch.rand(512, 512)
    wall, own = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < SPIN_SECONDS:
        a @ a
    return min(1.0, (time.process_time() - own) / (time.perf_counter() - wall) / torch.get_num_threads())


def matmul_size(device: torch.device) -> int:
    """Return the side of the matrices in the reference product."""
    return 8192 if device.type == "cuda" else 2048


def matmul_case(device: torch.device, dtype: torch.dtype):
    """Return a callable that multiplies two matrices, and its FLOP."""
    n = matmul_size(device)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * n**3
