"""Which options gain on this device: each measured against the same step without it, in interleaved rounds."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..memory import is_out_of_memory
from ..model.guidance_modes import GUIDANCE_MODES
from ..model.guidance_passes import set_guidance_mode
from ..model.model import SVDModel
from ..model.switches import compile_blocks, multiply_by
from ..networks import kernels
from ..networks.kernels.attention_backends import BACKENDS, force_backend
from ..networks.kernels.dispatch import unsupported_reason
from ..networks.kernels.matmul import fp8_unsupported_reason
from .findings import Finding, Table
from .profile import BF16, GAIN, KERNELS, DeviceProfile
from .timing import Rounds, difference, interleave
from .trial import WIDE, Trial, TrialSize, synthetic_trial

SHARED = "both CFG passes in one batch"
FP8, FP16_SUMS, COMPILE = "fp8 products", "float16 sums", "compiled blocks"
HOW = {
    KERNELS: "--kernels auto",
    FP8: "--fp8-products, products in Load SVD Model",
    FP16_SUMS: "--fp16-accumulation, products in Load SVD Model",
    COMPILE: "--compile, compile_blocks in Load SVD Model",
    BF16: "--dtype bfloat16, precision bf16 in Load SVD Model",
}
"""How to switch an option on. The guidance mode switches itself."""

STEADY = 0.75
"""Share of the rounds that must be faster before a gain counts."""

Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Gain:
    """One option at one size. factor: median over the rounds of the time without it by the time with it."""

    option: str
    size: TrialSize
    factor: float
    steady: bool
    error: float

    @property
    def is_gain(self) -> bool:
        """Return whether the option makes steps faster, by more than the noise."""
        return self.factor >= GAIN and self.steady


@torch.no_grad()
def measure_options(
    model: SVDModel, size: TrialSize, rounds: Rounds, *, half: SVDModel | None = None, compiled: bool = True
) -> tuple[list[Gain], dict[str, str]]:
    """Return the gains of all options that run here, and why others do not: option -> reason.

    half: the same model in bfloat16, to compare with it. compiled: also compile the blocks, which takes minutes. The
    model is as before afterwards.
    """
    step = _step(model, synthetic_trial(model, size))
    reasons = _reasons(model, half, compiled)
    cases = {name: switch for name, switch in _switches(model).items() if name not in reasons}
    gains = _measured(step, cases, size, rounds, model.device, reasons)
    if half is not None:
        gains += _bfloat16(model, half, size, rounds, reasons)
    if COMPILE not in reasons:  # last, because the compiled forms stay in memory
        forms: dict[nn.Module, object] = {}
        gains += _measured(step, {COMPILE: lambda: _compiled(model, forms)}, size, rounds, model.device, reasons)
    return gains, reasons


@torch.no_grad()
def measure_shared_pass(model: SVDModel, sizes: list[TrialSize], rounds: Rounds, reasons: dict[str, str]) -> list[Gain]:
    """Return what one batch for both CFG passes gains at every size that fits the memory, from the smallest."""
    gains, before = [], model.unet.clips_per_pass
    set_guidance_mode(model.unet, GUIDANCE_MODES[0])
    for size in sorted(sizes, key=lambda size: size.pixels):
        step = _step(model, synthetic_trial(model, size))
        found = _measured(step, {SHARED: lambda: _together(model)}, size, rounds, model.device, reasons)
        gains += found
        if not found:
            break
    model.unet.clips_per_pass = before
    return gains


def profile_of(gains: list[Gain]) -> DeviceProfile:
    """Return the profile of all gains: factors, and the largest clip up to which a shared pass gains at every size."""
    shared = sorted((gain for gain in gains if gain.option == SHARED), key=lambda gain: gain.size.pixels)
    largest = None if not shared else 0
    for gain in shared:
        if not gain.is_gain:
            break
        largest = gain.size.pixels
    factors = {gain.option: round(gain.factor if gain.steady else min(1.0, gain.factor), 3) for gain in gains}
    factors.pop(SHARED, None)
    return DeviceProfile(factors, largest)


def describe_options(
    gains: list[Gain], reasons: Mapping[str, str], device: torch.device
) -> tuple[list[Finding], Table]:
    """Return a finding on what gains, one on the rest, and the table of all."""
    rows = [
        (gain.option, str(gain.size), f"{gain.factor:.2f}", "yes" if gain.is_gain else "no", f"{gain.error:.1e}")
        for gain in gains
    ]
    rows += [(name, "-", "-", f"not measured: {reason}", "-") for name, reason in reasons.items()]
    table = Table(
        "Options: how many times as fast a guided step is",
        ("option", "clip", "factor", "gains", "difference"),
        tuple(rows),
    )
    better = {gain.option: gain for gain in gains if gain.is_gain and gain.option != SHARED}
    findings = []
    if better:
        seen = "faster here: " + ", ".join(f"{name} ({gain.factor:.2f} times)" for name, gain in better.items()) + "."
        how = "; ".join(f"{name}: {HOW[name]}" for name in better if name in HOW)
        findings.append(Finding("options", "note", seen, f"Switch on what you like. {how}." if how else ""))
    else:
        findings.append(Finding("options", "good", "no option makes a step faster here; leave them as they are."))
    shared = [gain for gain in gains if gain.option == SHARED]
    if shared:
        findings.append(_shared_finding(shared, device))
    return findings, table


def _shared_finding(gains: list[Gain], device: torch.device) -> Finding:
    each = ", ".join(f"{gain.factor:.2f} times as fast at {gain.size}" for gain in gains)
    if device.type == "cpu":
        end = "On a CPU the size of the clip alone decides, so that a clip has the same bits everywhere."
    else:
        end = "Guidance on auto follows this."
    return Finding("guidance", "good", f"both CFG passes in one batch are {each}. {end}")


def _step(model: SVDModel, trial: Trial) -> Step:
    state, conditions = trial.state(WIDE).to(model.device), tuple(one.to(model.device) for one in trial.both())
    return lambda: model.denoise(state, WIDE, conditions)


def _reasons(model: SVDModel, half: SVDModel | None, compiled: bool) -> dict[str, str]:
    """Return why options cannot be measured on the model's device, by option."""
    device, reasons = model.device, {}
    on_card = device.type == "cuda"
    if reason := unsupported_reason(device):
        reasons[KERNELS] = reason
    if reason := fp8_unsupported_reason(device):
        reasons[FP8] = reason
    if not on_card or model.dtype != torch.float16:
        reasons[FP16_SUMS] = "they need CUDA and float16"
    elif not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        reasons[FP16_SUMS] = f"torch {torch.__version__} cannot accumulate in float16"
    if not on_card:
        reasons["attention kernels"] = "they are chosen on CUDA only"
        reasons[COMPILE] = "it takes minutes on a CPU" if device.type == "cpu" else f"the device is {device.type}"
    elif not compiled:
        reasons[COMPILE] = "left out in a quick check, it takes minutes"
    if half is None:
        reasons[BF16] = "measured on a CPU only"
    return reasons


def _switches(model: SVDModel) -> dict[str, Callable]:
    """Return the options that can be switched within this process: name -> context in which the option is on."""
    switches: dict[str, Callable] = {KERNELS: _kernels}
    switches |= {
        FP8: lambda: _products(model, "fp8"),
        FP16_SUMS: lambda: _products(model, "fp16 sums"),
    }
    if model.device.type == "cuda":
        switches |= {f"attention {name}": lambda name=name: _attention(name) for name in BACKENDS if name != "math"}
    return switches


def _measured(
    step: Step,
    switches: Mapping[str, Callable],
    size: TrialSize,
    rounds: Rounds,
    device: torch.device,
    reasons: dict[str, str],
) -> list[Gain]:
    """Run the step plain and with every switch in turn; one that fails is left out with its reason."""
    plain = step().float().cpu()
    cases: dict[str, Step] = {"": step}
    errors = {}
    for name, switch in switches.items():

        def switched(switch=switch) -> Tensor:
            with switch():
                return step()

        try:
            errors[name] = difference(switched().float(), plain)
        except Exception as error:  # compilers, drivers and kernels fail in many ways; each is a line of the report
            reasons[name] = "out of memory" if is_out_of_memory(error) else f"it fails: {_first_line(error)}"
            continue
        cases[name] = switched
    times = interleave(cases, rounds.count, device)
    gains = []
    for name in cases.keys() - {""}:
        pairs = zip(times[""].seconds(rounds.clock), times[name].seconds(rounds.clock), strict=True)
        factors = [before / after for before, after in pairs]
        steady = sum(factor > 1 for factor in factors) >= STEADY * len(factors)
        gains.append(Gain(name, size, statistics.median(factors), steady, errors[name]))
    return sorted(gains, key=lambda gain: list(cases).index(gain.option))


def _bfloat16(model: SVDModel, half: SVDModel, size: TrialSize, rounds: Rounds, reasons: dict[str, str]) -> list[Gain]:
    """Compare the float32 UNet with the same one in bfloat16."""
    trial = synthetic_trial(model, size)
    steps, chosen = {False: _step(model, trial), True: _step(half, trial)}, [False]

    @contextmanager
    def use_half() -> Iterator[None]:
        chosen[0] = True
        try:
            yield
        finally:
            chosen[0] = False

    return _measured(lambda: steps[chosen[0]](), {BF16: use_half}, size, rounds, model.device, reasons)


@contextmanager
def _kernels() -> Iterator[None]:
    before = kernels.use_kernels("auto")
    try:
        yield
    finally:
        kernels.use_kernels(before)


@contextmanager
def _attention(name: str) -> Iterator[None]:
    force_backend(name)
    try:
        yield
    finally:
        force_backend(None)


@contextmanager
def _products(model: SVDModel, name: str) -> Iterator[None]:
    multiply_by(model.unet, name, model.device)
    try:
        yield
    finally:
        multiply_by(model.unet, "exact", model.device)


@contextmanager
def _together(model: SVDModel) -> Iterator[None]:
    set_guidance_mode(model.unet, GUIDANCE_MODES[1])
    try:
        yield
    finally:
        set_guidance_mode(model.unet, GUIDANCE_MODES[0])


@contextmanager
def _compiled(model: SVDModel, forms: dict[nn.Module, object]) -> Iterator[None]:
    """Run compiled blocks. forms: the compiled form of every block, filled by the first call, which takes minutes."""
    if not forms:
        compile_blocks(model.unet)
        forms.update({block: block._compiled_call_impl for block in model.unet.modules() if block._compiled_call_impl})
    for block, form in forms.items():
        block._compiled_call_impl = form
    try:
        yield
    finally:
        for block in forms:
            block._compiled_call_impl = None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else 'no reason given'}"
