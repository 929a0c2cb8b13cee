"""Time and memory of a step and of the decode, against the plan's estimate and the device's own rate."""

import torch

from ..model.guidance_passes import shares_a_pass
from ..model.model import SVDModel
from ..model.streamed_decode import STRATEGIES
from ..networks.attention import chunk_limit
from ..networks.config import UNetConfig
from ..plan.costs import Stage, level_pixels, stages_of, unet_flops
from ..plan.memory_plan import EFFICIENCY, MemoryPlan
from .findings import Finding, Table
from .memory_check import MIB, ROOM, peak_bytes
from .timing import Rounds, interleave
from .trial import WIDE, Trial

MOST_ROWS = 2**15
"""Rows of the products that measure the device's rate: more do not raise it, and would need more memory."""

WELL = 0.45
"""Share of the product rate that a UNet of SVD's width should reach; eager networks reach a third to a half."""

FEW_PIXELS = 2**14
"""Latent pixels of a clip below which a device is not busy."""


@torch.no_grad()
def product_rate(model: SVDModel, trial: Trial, rounds: Rounds) -> float:
    """Return the most operations per second of matrix products of the sizes of the UNet's feed-forward layers."""
    config, device = model.config.unet, model.device
    frames, height, width = trial.size.latent
    cases, flops = {}, {}
    for level, area in enumerate(level_pixels(height, width, len(config.channel_mult))):
        if level not in config.attention_levels:
            continue
        channels, rows = config.model_channels * config.channel_mult[level], min(MOST_ROWS, frames * area)
        left = torch.randn(rows, channels, device=device).to(model.dtype)
        right = torch.randn(8 * channels, channels, device=device).to(model.dtype)
        cases[f"{level}"] = lambda left=left, right=right: left @ right.t()
        flops[f"{level}"] = 16.0 * rows * channels**2
    times = interleave(cases, max(5, rounds.count), device)
    return max(flops[name] / times[name].median(rounds.clock) for name in cases) * _threads(rounds)


@torch.no_grad()
def check_speed(model: SVDModel, trial: Trial, rounds: Rounds, plan_rate: float | None) -> tuple[list[Finding], Table]:
    """Time a guided step and a decode of the trial.

    plan_rate: FLOP/s that a plan would estimate with; None compares no times, because the machine is busy.
    """
    device = model.device
    state, conditions = trial.state(WIDE).to(device), tuple(one.to(device) for one in trial.both())
    latents = trial.latents.to(device)
    cases = {
        "guided step": lambda: model.denoise(state, WIDE, conditions),
        "decode": lambda: model.decode(latents),
    }
    times = interleave(cases, rounds.count, device)
    seconds = {name: times[name].median(rounds.clock) / _threads(rounds) for name in cases}
    reached = 2 * unet_flops(model.config.unet, *trial.size.latent) / seconds["guided step"]
    rows, findings = [], [_share(seconds["guided step"], reached, product_rate(model, trial, rounds), model, trial)]
    for name, stage in _planned(model, trial).items():
        peak = peak_bytes(device, cases[name])
        estimate = None if plan_rate is None else stage.flops / (plan_rate * EFFICIENCY)
        planned = "-" if estimate is None else f"{estimate:.3g}"
        sizes = (f"{peak / MIB:,.0f}", f"{stage.activations / MIB:,.0f}")
        rows.append((name, f"{seconds[name]:.3g}", planned, *sizes))
        if estimate is not None:
            findings.append(_time(name, seconds[name], estimate))
        findings.append(_memory(name, peak, stage.activations))
    columns = ("stage", "seconds", "planned seconds", "peak MiB", "planned MiB")
    return findings, Table(f"Time and memory of {trial.size}", columns, tuple(rows))


def _threads(rounds: Rounds) -> int:
    """Return what processor time is divided by: the threads that count it at once."""
    return torch.get_num_threads() if rounds.clock == "cpu" else 1


def _planned(model: SVDModel, trial: Trial) -> dict[str, Stage]:
    """Return the stages of a plan for the trial, as the model runs them."""
    plan: MemoryPlan | None = getattr(model, "plan", None)
    stages = stages_of(
        model.config,
        trial.size.frames,
        trial.size.width,
        trial.size.height,
        steps=1,
        itemsize=model.dtype.itemsize,
        strategy=plan.strategy if plan else STRATEGIES[0],
        chunk_elements=chunk_limit(model.device, plan.chunk_elements if plan else None),
        videos=2 if shares_a_pass(model.unet, trial.latents.to(model.device), model.dtype) else 1,
    )
    names = {"sampling": "guided step", "decode": "decode"}
    by_name = {stage.name.split()[0]: stage for stage in stages}
    return {shown: by_name[name] for name, shown in names.items()}


def _share(seconds: float, reached: float, rate: float, model: SVDModel, trial: Trial) -> Finding:
    share = reached / rate
    seen = (
        f"a guided step over {trial.size} takes {seconds:.3g} s: {reached / 1e12:.3g} TFLOP/s, {100 * share:.0f} % of "
        f"the {rate / 1e12:.3g} TFLOP/s that plain matrix products of the same sizes reach here."
    )
    config = model.config
    small = config.unet.model_channels < UNetConfig().model_channels or trial.size.pixels < FEW_PIXELS
    if share >= WELL:
        return Finding("speed", "good", seen)
    if small:
        return Finding("speed", "good", f"{seen} Small models and small clips reach less than large ones.")
    advice = "Close other programs and run this again; if it stays so low, report this page."
    return Finding("speed", "note", seen, advice)


def _time(name: str, seconds: float, estimate: float) -> Finding:
    factor = seconds / estimate
    seen = f"the {name} takes {factor:.2f} times the time that a plan estimates ({seconds:.3g} s, {estimate:.3g} s)."
    if 0.5 <= factor <= 1.5:
        return Finding(f"time of the {name}", "good", seen)
    return Finding(f"time of the {name}", "note", seen, "Multiply the times of plans by that factor.")


def _memory(name: str, peak: int, estimate: int) -> Finding:
    factor = peak / estimate
    seen = f"the {name} takes {factor:.2f} times the memory that a plan estimates, without weights."
    if factor <= ROOM:
        return Finding(f"memory of the {name}", "good", seen)
    return Finding(f"memory of the {name}", "note", seen, "Plan with 1 GB less than the device has, and report this.")
