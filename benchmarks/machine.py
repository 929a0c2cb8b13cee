"""Describe the machine of a measurement: processor or card, matrix product rate, share of the cores we get."""

import os
import platform
from importlib import metadata

import torch


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


def matmul_size(device: torch.device) -> int:
    """Return the side of the matrices in the reference product."""
    return 8192 if device.type == "cuda" else 2048


def matmul_case(device: torch.device, dtype: torch.dtype):
    """Return a callable that multiplies two matrices, and its FLOP."""
    n = matmul_size(device)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * n**3
