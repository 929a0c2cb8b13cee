"""What does each exact technique gain? Each one is turned off in turn."""

import torch

import svd_core as svd
from svd_core.condition import Condition
from svd_core.doctor.timing import Case, difference, interleave
from svd_core.memory import PeakMemory
from svd_core.model.guidance_passes import set_guidance_mode
from svd_core.model.streamed_decode import STRATEGIES, decode_clip

from .options import Setting
from .results import Report
from .subjects import OURS, decode_case, decoder_of, model_of, unet_case, unet_inputs
from .switches import DECODER, OFF, ONLY_DECODER

CPU, GPU = ("half", "4x128x128"), ("real", "25x576x1024")
FOLD = "single-token attention folded"
PASSES = "CFG passes in turn (together)"


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Report times relative to the full core in the same rounds, and the counted memory of live tensors."""
    columns = ["stage", "without", "median s", "time with it off", "memory MiB", "difference"]
    size = "x".join(map(str, chosen.clip))
    report = chosen.report("ablation", f"Each technique off in turn: {size}, {chosen.scale} width", columns)
    model = model_of(chosen)
    base = unet_case(OURS, model, chosen)
    network = {name: off for name, off in OFF.items() if name not in ONLY_DECODER}
    _table(report, "UNet", chosen, base, {FOLD: _two_tokens(model, chosen), **_switched(base, network, report)})
    guided = _guided_step(model, chosen, "in turn")
    _table(report, "guided step", chosen, guided, {PASSES: _guided_step(model, chosen, "together")})
    report.unit = "seconds of a UNet pass without a technique (all: the full core)"
    passes = [row for row in report.rows if row["stage"] == "UNet"]
    report.bars = [(row["without"] or "all: ours", row["median s"]) for row in passes]
    del model, base, guided
    model = decoder_of(chosen)
    base = decode_case(OURS, model, chosen)
    wanted = {name: OFF[name] for name in DECODER}
    _table(report, "decode", chosen, base, {**_switched(base, wanted, report), **_strategies(model, chosen)})
    report.notes.append(
        "UNet: one pass; a guided step has two. The decoder uses `recompute` and `host` when memory is short"
    )
    return report


def _table(report: Report, stage: str, chosen: Setting, base: Case, others: dict[str, Case]) -> None:
    cases = {"": base, **others}
    expected = base()
    times = interleave(cases, chosen.rounds, chosen.device)
    full = times[""].median(chosen.clock)
    for name, case in cases.items():
        with PeakMemory() as memory:
            output = case()
        median = times[name].median(chosen.clock)
        row = {"stage": stage, "without": name, "median s": median, "time with it off": f"{median / full:.3f}"}
        row |= {"memory MiB": f"{memory.peak / 2**20:,.0f}", "difference": f"{difference(output, expected):.1e}"}
        report.rows.append(row)


def _switched(base: Case, switches: dict, report: Report) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name, off in switches.items():

        def case(off=off) -> torch.Tensor:
            with off():
                return base()

        try:
            case()
        except (LookupError, ImportError, AttributeError) as error:
            report.notes.append(f"{name}: not available ({error})")
            continue
        except torch.cuda.OutOfMemoryError:
            report.notes.append(f"{name}: without it this card runs out of memory")
            torch.cuda.empty_cache()
            continue
        cases[name] = case
    return cases


def _two_tokens(model: svd.SVDModel, chosen: Setting) -> Case:
    """Return a case with the token given twice: the result is the same, and the single-token shortcut is off."""
    x, c_noise, token, _, vector = unet_inputs(model, chosen, 1)
    frames = chosen.frames
    rows = token.expand(frames, 2, -1)
    return lambda: model.unet(x[0], c_noise.expand(frames), rows, vector.expand(frames, -1), num_frames=frames)


def _guided_step(model: svd.SVDModel, chosen: Setting, mode: str) -> Case:
    """Return a case of one guided step in a mode of `model.guidance_modes.GUIDANCE_MODES`."""
    x, _, token, _, vector = unet_inputs(model, chosen, 1)
    condition = Condition(token.float(), x[0, :1, 4:].float(), vector.float())
    both, state = (condition.unconditional(), condition), x[0, :, :4].float()

    def run() -> torch.Tensor:
        set_guidance_mode(model.unet, mode)
        return model.denoise(state, 2.0, both)

    return run


def _strategies(model: svd.SVDModel, chosen: Setting) -> dict[str, Case]:
    """Return the other exact decode strategies."""
    height, width = chosen.latent_size
    latent = torch.randn(chosen.frames, 4, height, width, generator=torch.Generator().manual_seed(2))
    latent = latent.to(chosen.device, chosen.dtype) / 0.18215
    others: dict[str, Case] = {
        f"store ({name} instead)": lambda name=name: decode_clip(model.vae, latent, name) for name in STRATEGIES[1:]
    }
    return others | {"streaming (all frames at once)": lambda: model.vae.decode(latent, chosen.frames)}
