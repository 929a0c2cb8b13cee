"""Half precision against float32, stage by stage, and the layer where it breaks."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..model.model import SVDModel
from ..model.streamed_decode import NonFiniteError, decode_clip
from ..networks.vae import LATENT_SCALE
from .findings import Finding, Table
from .timing import difference
from .trial import NARROW, WIDE, Trial

LIMITS = {torch.float16: (0.01, 0.05), torch.bfloat16: (0.03, 0.1)}
"""Relative errors of a stage: up to the first is usual, above the second something is wrong. The rounding of one number
is 0.0005 in float16 and 0.004 in bfloat16; a network of a hundred layers adds up to about twice that.
"""

Stage = Callable[[SVDModel, Trial], Tensor]


def _decode(model: SVDModel, trial: Trial) -> Tensor:
    """Decode without the second attempt in float32 that `SVDModel.decode` makes: where it breaks is the question."""
    vae = model.part("vae")
    place = vae.decoder.conv_in.weight
    latent = (trial.latents / LATENT_SCALE).to(device=place.device, dtype=place.dtype)
    return decode_clip(vae, latent.contiguous())


STAGES: dict[str, tuple[str, Stage]] = {
    "image encoder": ("image_encoder", lambda model, trial: model.encode_image(trial.picture)),
    "VAE encoder": ("vae", lambda model, trial: model.encode_latent(trial.noised)),
    f"UNet at sigma {WIDE:g}": ("unet", lambda model, trial: model.denoise(trial.state(WIDE), WIDE, trial.condition)),
    f"UNet at sigma {NARROW:g}": (
        "unet",
        lambda model, trial: model.denoise(trial.state(NARROW), NARROW, trial.condition),
    ),
    "VAE decoder": ("vae", _decode),
}
"""Every stage: the network it needs, and what it computes of the same inputs in every precision."""


@torch.no_grad()
def outputs_of(model: SVDModel, trial: Trial) -> dict[str, Tensor | str]:
    """Return the output of every stage in float32 on the CPU, or the name of the layer that gave NaN or infinity."""
    found: dict[str, Tensor | str] = {}
    for name, (network, stage) in STAGES.items():
        try:
            output = stage(model, trial).float().cpu()
        except NonFiniteError as error:
            found[name] = str(error)
            continue
        if bool(torch.isfinite(output).all()):
            found[name] = output
        else:
            found[name] = breaking_layer(model.part(network), lambda stage=stage: stage(model, trial))
    return found


def breaking_layer(network: nn.Module, run: Callable[[], object]) -> str:
    """Return the name of the first layer of `network` whose output is not finite while `run()` runs."""
    first: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def look(module: nn.Module, given: tuple, output: object) -> None:
            if not first and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                first.append(name)

        return look

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if not list(module.children()):
                hooks.callback(module.register_forward_hook(watch(name)).remove)
        try:
            run()
        except NonFiniteError as error:
            return first[0] if first else str(error)
    return first[0] if first else "a place between two layers"


def compare_precisions(
    reference: dict[str, Tensor | str], halves: dict[torch.dtype, dict[str, Tensor | str]]
) -> tuple[list[Finding], Table]:
    """Return what half precision costs. reference: outputs in float32; halves: those of every other precision."""
    findings, rows = [], []
    broken = [f"{name} ({output})" for name, output in reference.items() if isinstance(output, str)]
    if broken:
        seen = f"NaN or infinity in float32 in {', '.join(broken)}."
        findings.append(Finding("float32", "bad", seen, "The weights are damaged; download the checkpoint again."))
    for dtype, outputs in halves.items():
        errors = {
            name: difference(output, reference[name])
            for name, output in outputs.items()
            if not isinstance(output, str) and not isinstance(reference[name], str)
        }
        overflows = {name: output for name, output in outputs.items() if isinstance(output, str)}
        findings.append(_verdict(dtype, errors, overflows))
        for name in outputs:
            shown = f"{errors[name]:.1e}" if name in errors else f"breaks in {overflows.get(name, 'float32, too')}"
            rows.append((name, _short(dtype), shown))
    columns = ("stage", "precision", "relative error")
    return findings, Table("Error of half precision against float32", columns, tuple(rows))


def _verdict(dtype: torch.dtype, errors: dict[str, float], overflows: dict[str, str]) -> Finding:
    """Return the finding of one precision."""
    usual, most = LIMITS[dtype]
    check = _short(dtype)
    if overflows:
        where = "; ".join(f"{name} in {layer}" for name, layer in overflows.items())
        if list(overflows) == ["VAE decoder"]:
            advice = "Nothing must be done: the decoder then runs again in float32. Use bfloat16 to save that time."
            return Finding(check, "note", f"the numbers overflow: {where}.", advice)
        other = "bfloat16 or float32" if dtype == torch.float16 else "float32"
        return Finding(check, "bad", f"the numbers overflow: {where}.", f"Use {other}.")
    if not errors:
        return Finding(check, "bad", "no stage could be compared.", "Use another checkpoint.")
    worst = max(errors, key=errors.__getitem__)
    seen = f"differs from float32 by at most {errors[worst]:.1e}, in the {worst}"
    if errors[worst] > most:
        return Finding(check, "bad", f"{seen}; up to {usual:g} is usual.", "Use float32.")
    if errors[worst] > usual:
        return Finding(check, "note", f"{seen}; up to {usual:g} is usual.", "Compare a clip with one in float32.")
    return Finding(check, "good", f"{seen}; up to {usual:g} is usual.")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
