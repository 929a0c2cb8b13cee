"""The same clip under several memory limits: the same bits, and as much memory as estimated."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..memory import PeakMemory
from ..model.decoding import decode
from ..model.guidance_passes import set_guidance_mode
from ..model.model import SVDModel
from ..model.retry import limit_chunks
from ..model.streamed_decode import STRATEGIES
from ..networks.activation_bytes import decoder_activation_bytes
from ..plan.memory_plan import GIB, PLACEMENTS, MemoryPlan
from ..plan.placed import place
from .findings import Finding, Table
from .timing import difference
from .trial import WIDE, Trial

MIB = 2**20
ROOM = 1.15
"""A measured peak up to this share of the estimate is as planned: kernels have workspaces that estimates leave out."""


ROUNDING = 1e-4
"""Relative difference below which two results differ by the order of sums alone."""


def peak_bytes(device: torch.device, run: Callable[[], object]) -> int:
    """Return the peak bytes of what `run()` allocates on the device, beside what was there before.

    CUDA: as its allocator counts, workspaces included. Elsewhere: live tensors.
    """
    if device.type != "cuda":
        with PeakMemory() as memory:
            run()
        return memory.peak
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


@torch.no_grad()
def check_decodes(model: SVDModel, trial: Trial) -> tuple[list[Finding], Table]:
    """Decode the clip in every way that a memory limit can choose, which must give the same bits, and in chunks."""
    vae, itemsize = model.part("vae"), model.dtype.itemsize
    coder, size = vae.config.decoder, (*trial.size.latent, itemsize)
    estimates = {name: decoder_activation_bytes(coder, *size, strategy=name) for name in STRATEGIES}
    frames: dict[str, Tensor] = {}
    rows, over = [], []
    for name, estimate in estimates.items():

        def run(name: str = name) -> None:
            frames[name] = _decoded(model, trial, name)

        peak = peak_bytes(model.device, run)
        rows.append((name, f"{peak / MIB:.0f}", f"{estimate / MIB:.0f}", _shown(frames[name], frames[STRATEGIES[0]])))
        # On a CPU main memory is the memory of the device, so that "host" saves nothing there.
        if peak > ROOM * estimate and not (name == "host" and model.device.type == "cpu"):
            over.append(f"{name} {peak / estimate:.2f}")
    columns = ("decode", "peak MiB", "estimate MiB", "difference")
    table = Table(f"Decoding {trial.size}; a memory limit chooses among these", columns, tuple(rows))
    findings = [_same_bits("decode", "decode strategies", frames)]
    if over:
        seen = f"the peak is above the estimate by the factors {', '.join(over)}."
        findings.append(Finding("decode memory", "note", seen, "Plan with 1 GB less, and report this page."))
    else:
        findings.append(Finding("decode memory", "good", "every decode stays within its estimate."))
    if trial.size.frames > 2 and vae.config.temporal:
        findings.append(_chunks(model, trial, frames[STRATEGIES[0]]))
    return findings, table


def _decoded(model: SVDModel, trial: Trial, strategy: str, plan: str | int = "exact") -> Tensor:
    return decode(model.part("vae"), trial.latents, plan, strategy=strategy).cpu()


def _chunks(model: SVDModel, trial: Trial, exact: Tensor) -> Finding:
    """Compare decoding in two chunks, as the official script does, with the exact decode."""
    half = -(-trial.size.frames // 2)
    error = (_decoded(model, trial, STRATEGIES[0], half) - exact).square().mean().clamp_min(1e-12)
    decibels = float(10 * torch.log10(4 / error))  # frames are in -1..1
    seen = f"decoding {half} frames at a time gives {decibels:.0f} dB against the exact decode, which needs no chunks."
    return Finding("decode in chunks", "note", seen, "Keep decode at exact.")


@torch.no_grad()
def check_placements(model: SVDModel, trial: Trial, device: torch.device, plan: MemoryPlan) -> tuple[Finding, Table]:
    """Run one UNet pass with the weights resident, one network at a time, and streamed: the bits must be the same.

    model: in main memory. plan: of this clip; only its chunks and its guidance mode are used.
    """
    results: dict[str, Tensor] = {}
    rows = []
    for placement in PLACEMENTS:
        placed = place(model, plan, device)
        placed.move(placement)
        results[placement] = placed.denoise(trial.state(WIDE).to(device), WIDE, trial.condition.to(device)).cpu()
        held = torch.cuda.memory_allocated(device) / GIB if device.type == "cuda" else None
        changed = _shown(results[placement], results[PLACEMENTS[0]])
        rows.append((placement, "-" if held is None else f"{held:.2f}", changed))
        placed.move(PLACEMENTS[1])  # everything back to main memory
    set_guidance_mode(model.unet, None)
    limit_chunks(model.unet, None)
    table = Table(
        f"One UNet pass over {trial.size} by placement of the weights",
        ("weights", "on the device, GiB", "difference"),
        tuple(rows),
    )
    return _same_bits("placements", "placements of the weights", results), table


def _shown(actual: Tensor, expected: Tensor) -> str:
    return "none" if torch.equal(actual, expected) else f"{difference(actual, expected):.1e}"


def _same_bits(check: str, what: str, results: dict[str, Tensor]) -> Finding:
    """Return whether all results are the first one, to the bit or up to rounding."""
    first, *others = results.values()
    if all(torch.equal(other, first) for other in others):
        return Finding(check, "good", f"all {what} give the same bits, so a memory limit does not change the clip.")
    largest = max(difference(other, first) for other in others)
    if largest < ROUNDING:
        seen = f"the {what} differ by rounding, {largest:.1e}: kernels of this device depend on where numbers lie."
        return Finding(check, "note", seen, "Keep one memory limit for clips that must be equal to the bit.")
    return Finding(
        check, "bad", f"the {what} give other clips, with a difference of {largest:.1e}.", "Report this page."
    )
