"""Shared by `unet` and `decode`: gate, interleaved timing, memory in a child process, table."""

import gc
from collections.abc import Callable

import torch

from svd_core.doctor.timing import difference, flops, interleave

from . import rss
from .machine import matmul_case
from .options import Setting
from .results import Report
from .subjects import DIFFUSERS, OURS, Case, names

GATES = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest allowed relative difference to diffusers. In half precision both differ from float32 by about that much on
random weights; `half_precision` measures each.
"""
MATMUL = "matrix product"
COLUMNS = ["implementation", "median s", "IQR s", "times as fast", "share of matmul rate", "memory MiB", "difference"]


@torch.no_grad()
def compare(
    report: Report,
    setting: Setting,
    make: Callable[[str], Case],
    child: Callable[[str], list[str]],
    *,
    nominal: float | None = None,
) -> dict[str, float]:
    """Fill the report and return median seconds per implementation.

    make: returns the case of an implementation. child: arguments of its memory measurement (`rss.in_child`). nominal:
    operations that count as the work; None counts those of diffusers.
    """
    cases, outputs = _gate(report, setting, make)
    work = nominal or flops(cases[DIFFUSERS])
    product, product_flops = matmul_case(setting.device, setting.dtype)
    warmups = 3 if setting.device.type == "cuda" else 0  # the gate already ran each case once
    times = interleave({**cases, MATMUL: product}, setting.rounds, setting.device, warmups)
    medians = {name: value.median(setting.clock) for name, value in times.items()}
    rate = product_flops / medians[MATMUL]
    memory = {}
    if setting.device.type == "cuda":
        memory = {name: rss.over_start(case, setting.device) for name, case in cases.items()}
    cases.clear()
    gc.collect()
    for name in outputs:
        row = {"implementation": name, "difference": f"{outputs[name]:.1e}"}
        if name in times:
            row |= {
                "median s": medians[name],
                "IQR s": times[name].spread(setting.clock),
                "times as fast": f"{medians[DIFFUSERS] / medians[name]:.2f}",
                "share of matmul rate": f"{100 * work / medians[name] / rate:.0f} %",
            }
            taken = memory.get(name) or _child_bytes(report, name, child(name))
            row["memory MiB"] = f"{taken / 2**20:,.0f}" if taken else "-"
            report.bars.append((name, medians[name]))
        report.rows.append(row)
    report.notes += [
        f"{work / 1e12:.3f} TFLOP as diffusers computes it; matrix product in the same run: {rate / 1e9:,.0f} GFLOP/s",
        f"{setting.rounds} rounds, interleaved, after the gate's and {warmups} more warm-ups; `times as fast` as eager "
        "diffusers",
    ]
    return medians


def _gate(report: Report, setting: Setting, make: Callable[[str], Case]) -> tuple[dict[str, Case], dict[str, float]]:
    """Return the cases that agree with diffusers, and the distance of every case; only the former are timed."""
    cases = {name: make(name) for name in names(setting.compiled)}
    expected = cases[DIFFUSERS]()
    outputs = {name: difference(case(), expected) for name, case in cases.items()}
    limit = GATES[setting.dtype]
    for name, distance in outputs.items():
        if not distance <= limit:
            report.notes.append(f"{name} is {distance:.1e} from diffusers, more than {limit:g}: not timed")
            del cases[name]
    if OURS not in cases or DIFFUSERS not in cases:
        raise SystemExit(f"gate failed: {outputs}")
    return cases, outputs


def _child_bytes(report: Report, name: str, words: list[str]) -> int:
    found = rss.in_child(*words)
    if "error" in found:
        report.notes.append(f"memory of {name} was not measured: {found['error']}")
    return found.get("bytes", 0)
