"""Run the Triton kernels over a table of shapes and print one JSON line per case.

This runs in a child process, because TRITON_INTERPRET, which selects the interpreter where there is no GPU, must be set
before Triton is imported.
"""

import json
import sys

import torch
import torch.nn.functional as F
from torch import nn

from svd_core.networks import layers
from svd_core.networks.attention import FeedForward
from svd_core.networks.kernels import dispatch, fused, matmul

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF, BF16, FULL = torch.float16, torch.bfloat16, torch.float32

GROUP_NORMS = {
    # name: shape of x, groups, num_frames, layout, dtype, offset of x, SiLU, tokens
    "frame by frame": ((2, 64, 5, 7), 32, 1, "plain", FULL, 0.0, True, False),
    "three channels a group": ((3, 12, 9, 3), 4, 1, "plain", FULL, 0.0, True, False),
    "one group": ((1, 5, 3, 4), 1, 1, "plain", FULL, 0.0, False, False),
    "one channel a group, one pixel": ((2, 4, 1, 1), 2, 1, "plain", FULL, 0.0, True, False),
    "bfloat16": ((2, 24, 8, 9), 4, 1, "plain", BF16, 0.5, True, False),
    "float16": ((2, 24, 8, 9), 4, 1, "plain", HALF, 0.5, True, False),
    "no SiLU": ((2, 24, 8, 9), 4, 1, "plain", BF16, 0.5, False, False),
    "stretches of a large frame": ((1, 8, 67, 71), 2, 1, "plain", FULL, 3.0, True, False),
    "wide groups": ((1, 80, 6, 5), 2, 1, "plain", BF16, 0.0, True, False),
    "mean far from zero": ((1, 16, 11, 13), 2, 1, "plain", FULL, 300.0, True, False),
    "one clip": ((3, 16, 5, 6), 4, 3, "plain", FULL, 0.0, True, False),
    "two clips": ((6, 16, 5, 6), 4, 3, "plain", BF16, 0.0, True, False),
    "frames inside the channels": ((3, 16, 5, 6), 4, 3, "clip", BF16, 0.0, True, False),
    "channels last": ((2, 24, 5, 6), 4, 1, "last", BF16, 0.0, True, False),
    "channels last over frames": ((3, 24, 5, 6), 4, 3, "last", FULL, 0.0, True, False),
    "tokens": ((2, 40, 5, 9), 4, 1, "plain", BF16, 0.0, False, True),
    "tokens of channels last": ((2, 40, 5, 9), 4, 1, "last", FULL, 0.0, False, True),
    "part of a larger picture": ((2, 12, 5, 6), 4, 1, "cut", FULL, 0.0, True, False),
}
ADD_NORMS = {
    # name: shape of x, shape of update or None, fresh, dtype
    "same shape": ((1, 3, 5, 20), (1, 3, 5, 20), False, FULL),
    "same shape in bfloat16": ((2, 7, 40), (2, 7, 40), False, BF16),
    "same shape in float16": ((2, 7, 33), (2, 7, 33), False, HALF),
    "a bias": ((1, 3, 5, 24), (24,), False, BF16),
    "frame positions in new memory": ((2, 3, 5, 24), (3, 1, 24), True, FULL),
    "a constant per clip": ((2, 3, 5, 24), (2, 1, 1, 24), False, FULL),
    "nothing": ((3, 5, 17), None, False, BF16),
    "the top level's width": ((1, 2, 3, 320), (1, 2, 3, 320), False, BF16),
}
GATES = {
    # name: rows, channels, hidden, dtype, bias
    "float32": (5, 16, 24, FULL, True),
    "bfloat16": (9, 16, 256, BF16, True),
    "float16": (17, 16, 257, HALF, True),
    "no bias": (3, 16, 300, BF16, False),
}
QUANTISED = {"float32": (3, 40, FULL), "bfloat16": (2, 1030, BF16)}


def emit(kind: str, name: str, **found: object) -> None:
    """Print one line."""
    print(json.dumps({"case": f"{kind}: {name}", **found}), flush=True)


def drawn(*shape: int, dtype: torch.dtype = FULL, offset: float = 0.0) -> torch.Tensor:
    """Return normal numbers around an offset."""
    return (torch.randn(shape) + offset).to(DEVICE, dtype)


def errors(actual: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor) -> dict[str, float]:
    """Return the largest and root-mean-square errors of kernel and plain path against float64."""

    def of(value: torch.Tensor) -> tuple[float, float]:
        distance = (value.double() - exact).abs()
        return distance.max().item(), distance.square().mean().sqrt().item()

    (most, mean), (plain_most, plain_mean) = of(actual), of(plain)
    return {
        "most": most,
        "mean": mean,
        "plain most": plain_most,
        "plain mean": plain_mean,
        "scale": exact.abs().max().item(),
    }


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Return the same numbers in another memory layout."""
    if layout == "last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "clip":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "cut":
        return F.pad(x, (1, 2, 1, 1))[:, :, 1:-1, 1:-2]
    return x


def group_norms() -> None:
    """Compare GroupNorm with the plain path."""
    for name, (shape, groups, frames, layout, dtype, offset, activate, tokens) in GROUP_NORMS.items():
        norm = shaken(nn.GroupNorm(groups, shape[1], eps=1e-5), dtype)
        x = laid_out(drawn(*shape, dtype=dtype, offset=offset), layout)

        def plain(norm, x, frames=frames, activate=activate, tokens=tokens):
            y = layers.norm_over_frames(norm, x, frames)
            y = F.silu(y) if activate else y
            return y.flatten(2).transpose(1, 2) if tokens else y

        found = fused.group_norm(norm, x, frames, activate=activate, tokens=tokens)
        exact = plain(copied(norm), x.double())
        emit(
            "GroupNorm", name, ran=found is not None, dtype=str(dtype), contiguous=found.is_contiguous(),
            last=found.ndim == 4 and found.is_contiguous(memory_format=torch.channels_last),
            **errors(found, plain(norm, x), exact),
        )  # fmt: skip
    norm, frame = shaken(nn.GroupNorm(4, 12), BF16), drawn(1, 12, 20, 30, dtype=BF16, offset=1.0)
    variance, mean = fused.frame_moments(frame, 4)
    exact = torch.var_mean(frame.double().reshape(4, -1), dim=1, correction=0)
    emit(
        "moments",
        "one frame",
        ran=True,
        dtype=str(FULL),
        **errors(torch.stack([variance, mean]), torch.stack(exact).float(), torch.stack(exact)),
    )
    given = fused.normalise_silu(norm, frame, variance, mean)
    exact = F.silu(copied(norm)(frame.double()))
    emit("moments", "applied", ran=True, dtype=str(BF16), **errors(given, F.silu(norm(frame)), exact))


def add_norms() -> None:
    """Compare add and LayerNorm with the plain path."""
    for name, (shape, other, fresh, dtype) in ADD_NORMS.items():
        norm = shaken(nn.LayerNorm(shape[-1]), dtype)
        x = drawn(*shape, dtype=dtype, offset=2.0)
        update = None if other is None else drawn(*other, dtype=dtype)
        before = x.clone()
        exact = x.double() + (0 if update is None else update.double())
        dispatch.use_kernels("plain")
        plain_sum, plain = layers.add_norm(norm, x.clone(), update, fresh=fresh)
        dispatch.use_kernels("auto")
        total, found = fused.add_norm(norm, x, update, fresh=fresh)
        kept = torch.equal(x, before) if fresh else total.data_ptr() == x.data_ptr()
        emit(
            "add and LayerNorm", name, ran=True, dtype=str(dtype), kept=kept,
            equal_sum=torch.equal(total, plain_sum), **errors(found, plain, copied(norm)(exact)),
        )  # fmt: skip


def gate_cases() -> None:
    """Compare GEGLU with the plain path."""
    for name, (rows, channels, hidden, dtype, bias) in GATES.items():
        layer = nn.Linear(channels, 2 * hidden, bias=bias).to(DEVICE, dtype)
        x = drawn(rows, channels, dtype=dtype)
        found = fused.geglu(layer, x)

        def plain(layer, x):
            value, gate = layer(x).chunk(2, dim=-1)
            return value * F.gelu(gate)

        emit(
            "GEGLU",
            name,
            ran=found is not None,
            dtype=str(dtype),
            **errors(found, plain(layer, x), plain(copied(layer), x.double())),
        )


def quantise_fp8() -> None:
    """Compare rows rounded to fp8 by the kernel and by the plain path with the original rows."""
    for name, (rows, channels, dtype) in QUANTISED.items():
        x = drawn(rows, channels, dtype=dtype)
        x[0] = 0  # a row of zeros must not divide by zero
        found, scale = matmul._quantise_rows(x)
        dispatch.use_kernels("plain")
        plain, plain_scale = matmul.quantise_fp8(x)
        dispatch.use_kernels("auto")
        emit(
            "fp8", name, ran=True, dtype=str(dtype), scales=torch.allclose(scale, plain_scale, rtol=1e-6),
            **errors(found.float() * scale, plain.float() * plain_scale, x.double()),
        )  # fmt: skip


def whole_layers() -> None:
    """Compare a feed-forward layer with and without kernels."""
    layer = FeedForward(32).to(DEVICE)
    norm, x, update = shaken(nn.LayerNorm(32), FULL), drawn(2, 3, 5, 32), drawn(2, 3, 5, 32)
    ours = layer.add_to(*layers.add_norm(norm, x.clone(), update))
    dispatch.use_kernels("plain")
    plain = layer.add_to(*layers.add_norm(norm, x.clone(), update))
    dispatch.use_kernels("auto")
    emit("layer", "feed-forward", ran=True, dtype=str(FULL), **errors(ours, plain, plain.double()))


def shaken(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the norm with random weights instead of ones and zeros."""
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.3)
    return norm.to(DEVICE, dtype)


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of the module in float64."""
    import copy

    return copy.deepcopy(module).double()


@torch.no_grad()
def main() -> None:
    """Run all kinds of cases, or those named on the command line."""
    dispatch.use_kernels("auto")
    if DEVICE == "cpu":
        dispatch.unsupported_reason = lambda device: None
    torch.manual_seed(0)
    kinds = {f.__name__: f for f in (group_norms, add_norms, gate_cases, quantise_fp8, whole_layers)}
    for name in sys.argv[1:] or kinds:
        kinds[name]()


if __name__ == "__main__":
    main()
