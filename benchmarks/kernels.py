"""How fast are the Triton kernels and the fp8 products? Needs a GPU; only correct kernels are timed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svd_core.doctor.timing import Case, difference, interleave
from svd_core.networks import kernels, layers
from svd_core.networks.attention import _GatedProjection
from svd_core.networks.kernels import dispatch
from svd_core.networks.kernels.matmul import (
    MULTIPLE,
    fp8_linear,
    fp8_unsupported_reason,
    quantise_fp8,
    supports_row_scales,
)

from .options import Setting
from .results import Report
from .subjects import OURS, model_of, unet_case

CPU, GPU = ("small", "4x64x64"), ("real", "25x576x1024")
COLUMNS = ["what", "shape", "plain ms", "ours ms", "gain", "GB/s", "share of a copy", "error", "plain error"]
GATE = 1.2
"""Largest allowed ratio of a kernel's error against float32 to that of the plain path."""

COPY_NUMBERS = 2**28


@dataclass(frozen=True)
class Pair:
    """A function that runs with and without kernels, its inputs, and the bytes that it must read and write."""

    what: str
    shape: str
    function: Callable[..., Tensor]
    given: tuple
    bytes: int


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Time every kernel at every shape that a pass of this clip uses."""
    size = "x".join(map(str, chosen.clip))
    report = chosen.report("kernels", f"Kernels, fp8 products: {size}, {chosen.dtype}", COLUMNS)
    if chosen.device.type != "cuda":
        report.notes.append("not timed: needs a GPU. tests/networks/test_kernels.py checks what the kernels compute")
        return report
    reason = dispatch.unsupported_reason(chosen.device)
    if reason is not None:
        report.notes.append(f"kernels do not run here: {reason}")
        return report
    rate = _copy_rate(chosen)
    report.notes.append(f"a copy of {COPY_NUMBERS * 2 >> 20} MiB moves {rate / 1e9:,.0f} GB/s, reading and writing")
    for pair in _pairs(chosen):
        _measure(pair, chosen, rate, report)
    _products(chosen, report)
    _unet_pass(chosen, report)
    failed = sorted(dispatch._failed)
    report.notes += [f"the {name} kernel FAILED; plain PyTorch was timed instead" for name in failed]
    report.bars = [(f"{row['what']} {row['shape']}", float(row["gain"])) for row in report.rows if row.get("gain")]
    report.unit = "times as fast as the plain path"
    return report


def _copy_rate(chosen: Setting) -> float:
    source = torch.randn(COPY_NUMBERS, device=chosen.device).to(torch.bfloat16)
    target = torch.empty_like(source)
    times = interleave({"copy": lambda: target.copy_(source)}, chosen.rounds, chosen.device)
    return 2 * source.nbytes / times["copy"].median(chosen.clock)


def _pairs(chosen: Setting) -> Iterator[Pair]:
    """Yield norms and gates at the widest shapes of the four levels, and at the decoder's largest frames."""
    frames, (height, width) = chosen.frames, chosen.latent_size
    place = {"device": chosen.device, "dtype": chosen.dtype}
    item = chosen.dtype.itemsize
    for level, channels in enumerate((320, 640, 1280, 1280)):
        h, w = -(-height >> level), -(-width >> level)
        x = torch.randn(frames, channels, h, w, **place)
        norm = _shaken(nn.GroupNorm(32, channels)).to(**place)
        shape = f"{frames}x{channels}x{h}x{w}"
        yield Pair("GroupNorm, SiLU", shape, layers.norm_silu, (norm, x), 3 * x.numel() * item)
        yield Pair("GroupNorm over frames", shape, layers.norm_silu, (norm, x, frames), 3 * x.numel() * item)
        if level == 3:
            break
        yield Pair("GroupNorm to tokens", shape, layers.norm_to_tokens, (norm, x), 3 * x.numel() * item)
        last = x.contiguous(memory_format=torch.channels_last)
        yield Pair("GroupNorm, channels last", shape, layers.norm_silu, (norm, last), 3 * x.numel() * item)
        rows = frames * h * w
        tokens, update = (torch.randn(rows, channels, **place) for _ in range(2))
        norm = _shaken(nn.LayerNorm(channels)).to(**place)
        added = 4 * rows * channels * item
        yield Pair("add, LayerNorm", f"{rows}x{channels}", _added, (norm, tokens, update), added)
        hidden = torch.randn(min(rows, 2**17), 8 * channels, **place)
        projection = _GatedProjection(MULTIPLE, 4 * channels).to(**place)
        moved = hidden.numel() * item * 7 // 2
        yield Pair("GEGLU and a copy", f"{len(hidden)}x{8 * channels}", _gate, (projection, hidden), moved)
    for channels, scale in ((128, 8), (256, 8), (512, 4)):
        x = torch.randn(1, channels, height * scale, width * scale, **place)
        norm = _shaken(nn.GroupNorm(32, channels)).to(**place)
        shape = "x".join(map(str, x.shape))
        yield Pair("GroupNorm, SiLU", shape, layers.norm_silu, (norm, x), 3 * x.numel() * item)


def _shaken(norm: nn.Module) -> nn.Module:
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.3)
    return norm


def _added(norm: nn.Module, tokens: Tensor, update: Tensor) -> Tensor:
    return layers.add_norm(norm, tokens, update, fresh=True)[1]


def _gate(projection: nn.Module, hidden: Tensor) -> Tensor:
    """Run the gate after a product that only copies; adding the bias is free there, as in a real product."""
    return projection(hidden, lambda x, weight, bias: hidden.clone() if bias is None else hidden + bias)


def _in(mode: str, pair: Pair) -> Case:
    def case() -> Tensor:
        before = kernels.use_kernels(mode)
        try:
            return pair.function(*pair.given)
        finally:
            kernels.use_kernels(before)

    return case


def _measure(pair: Pair, chosen: Setting, rate: float, report: Report) -> None:
    cases = {"plain": _in("plain", pair), "ours": _in("auto", pair)}
    wide = [part.float() if isinstance(part, Tensor) else part for part in pair.given]
    wide = [_wide(part) if isinstance(part, nn.Module) else part for part in wide]
    truth = _in("plain", Pair(pair.what, pair.shape, pair.function, tuple(wide), 0))()
    errors = {name: difference(case(), truth) for name, case in cases.items()}
    del truth
    row = {"what": pair.what, "shape": pair.shape, "error": errors["ours"], "plain error": errors["plain"]}
    if errors["ours"] > GATE * errors["plain"] + 1e-6:
        report.rows.append(row | {"ours ms": "WRONG, not timed"})
        return
    times = interleave(cases, chosen.rounds, chosen.device, warmups=3)
    plain, ours = (times[name].median(chosen.clock) for name in cases)
    moved = pair.bytes / ours
    row |= {"plain ms": 1e3 * plain, "ours ms": 1e3 * ours, "gain": f"{plain / ours:.2f}", "GB/s": moved / 1e9}
    report.rows.append(row | {"share of a copy": f"{moved / rate:.0%}"})


def _wide(module: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(module).float()


def _products(chosen: Setting, report: Report) -> None:
    """Time fp8 products, including the rounding of both sides, against the clip's own precision."""
    reason = fp8_unsupported_reason(chosen.device)
    if reason is not None:
        report.notes.append(f"no fp8 products: {reason}")
        return
    by_rows = supports_row_scales(chosen.device)
    report.notes.append(f"fp8 products: one scale per {'row' if by_rows else 'matrix'}")
    frames, (height, width) = chosen.frames, chosen.latent_size
    for level, channels in enumerate((320, 640, 1280)):
        rows = frames * (height >> level) * (width >> level)
        for wide, narrow in ((channels, 3 * channels), (channels, 8 * channels), (4 * channels, channels)):
            x = torch.randn(min(rows, 2**17), wide, device=chosen.device, dtype=chosen.dtype)
            weight = torch.randn(narrow, wide, device=chosen.device, dtype=chosen.dtype) * wide**-0.5
            cases: dict[str, Case] = {
                "plain": lambda x=x, weight=weight: F.linear(x, weight),
                "ours": lambda x=x, weight=weight: fp8_linear(x, weight, by_rows=by_rows),
                "rounding": lambda x=x: quantise_fp8(x, by_rows=by_rows),
            }
            truth = F.linear(x.float(), weight.float())
            row = {"what": "fp8 product", "shape": f"{len(x)}x{wide}x{narrow}"}
            row |= {"error": difference(cases["ours"](), truth), "plain error": difference(cases["plain"](), truth)}
            times = interleave(cases, chosen.rounds, chosen.device, warmups=3)
            plain, ours, rounding = (1e3 * times[name].median(chosen.clock) for name in cases)
            row |= {"plain ms": plain, "ours ms": ours, "gain": f"{plain / ours:.2f}"}
            report.rows.append(row | {"share of a copy": f"rounding {rounding:.2f} ms"})


def _unet_pass(chosen: Setting, report: Report) -> None:
    """Time a pass of the UNet with kernels off and on."""
    model = model_of(chosen)
    case = unet_case(OURS, model, chosen)
    plain = case()
    for mode in kernels.MODES:
        before = kernels.use_kernels(mode)
        seconds = interleave({mode: case}, chosen.rounds, chosen.device)[mode].median(chosen.clock)
        error = difference(case(), plain)
        kernels.use_kernels(before)
        report.rows.append(
            {"what": f"UNet pass, kernels {mode}", "shape": "", "ours ms": 1e3 * seconds, "error": error}
        )
    report.notes.append("UNet passes: errors are distances from the plain pass in the same precision")
