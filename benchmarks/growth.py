"""How do time and memory grow with frames, size, steps, clips and LoRAs, and is that what the operations say?

Everything is measured at a small width on the CPU, and counted at the real width. The law of a row is the number of
operations of its clip; a measurement that grows faster than its law is a fault.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import svd_core as svd
from svd_core.charts import Chart, Curve, draw_charts
from svd_core.lora.apply import with_terms
from svd_core.lora.delta import LoraLayer
from svd_core.memory import PeakMemory
from svd_core.networks.config import SVDConfig
from svd_core.plan.costs import stages_of

from .options import Setting
from .results import Report
from .subjects import model_of

CPU, GPU = ("small", "8x128x128"), ("small", "8x128x128")
PARTS = ("unet", "vae", "image_encoder")
COLUMNS = ["what grows", "value", "CPU seconds", "times the first", "law", "peak MiB", "times the first peak",
           "real size: TFLOP", "real size: peak GiB"]  # fmt: skip
FRAMES, STEPS, CLIPS, LORAS = (7, 14, 25, 49, 97, 121), (2, 4, 8, 16), (1, 2, 4, 8), (1, 2, 4, 8)
SIZES = ((256, 128), (384, 192), (512, 256), (768, 384), (1024, 512))
COUNTED = ((1280, 704), (1920, 1088))  # sizes beyond what is measured
TOLERANCE = 1.25  # times its law
RANK = 8


@dataclass(frozen=True)
class Point:
    """One run. law: proportional to the time expected. real: operations and peak bytes at SVD's own width, if any."""

    value: int
    run: Callable[[], object]
    law: float
    real: tuple[float, float] | None = None


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Measure every axis, and draw each measured curve beside its law."""
    report = chosen.report("growth", f"Growth: {chosen.scale} width, counted at the real one", COLUMNS)
    model = model_of(chosen, PARTS)
    pages = []
    for name, points in axes(model, chosen).items():
        seconds, peaks = zip(*(measured(point.run, chosen.rounds) for point in points), strict=True)
        laws = [point.law / points[0].law for point in points]
        grown = [value / seconds[0] for value in seconds]
        stored = [value / peaks[0] for value in peaks]
        for number, point in enumerate(points):
            row = {"what grows": name, "value": point.value, "CPU seconds": seconds[number], "law": laws[number]}
            row |= {"times the first": grown[number], "peak MiB": peaks[number] / 2**20}
            row |= {"times the first peak": stored[number]}
            if point.real is not None:
                row |= {"real size: TFLOP": point.real[0] / 1e12, "real size: peak GiB": point.real[1] / 2**30}
            report.rows.append(row)
        faster = grown[-1] / laws[-1]
        report.rows += further(name)
        verdict = "as its law" if faster <= TOLERANCE else f"{faster:.2f} times its law"
        report.notes.append(f"{name}: from {points[0].value:,} to {points[-1].value:,} grows {verdict}")
        pages.append(chart(name, [point.value for point in points], grown, laws, stored))
    report.notes.append("law: operations of the clip, relative to the first row; peak: tensors alive at the same time")
    report.page = draw_charts("Growth, times the first value", pages, columns=2, width=1000, height=220)
    return report


def further(name: str) -> list[dict[str, object]]:
    """Return the rows that are counted only."""
    rows = []
    for width, height in COUNTED if name == "pixels" else ():
        flops, peak = real(25, width, height)
        rows.append({"what grows": name, "value": width * height, COLUMNS[-2]: flops / 1e12, COLUMNS[-1]: peak / 2**30})
    return rows


def chart(name: str, values: Sequence[int], grown: list[float], laws: list[float], stored: list[float]) -> Chart:
    """Return the curves of one axis over its values."""
    marks = {float(value): f"{value:,}" for value in (values[0], values[-1])}
    curves = [Curve(grown, "time", values), Curve(laws, "law", values), Curve(stored, "peak memory", values)]
    return Chart(name, curves, x_marks=marks, include=0.0)


def measured(case: Callable[[], object], rounds: int) -> tuple[float, int]:
    """Return the median processor time of a case, and the peak bytes of its tensors."""
    case()
    times = []
    for _ in range(max(1, rounds)):
        start = time.process_time()
        case()
        times.append(time.process_time() - start)
    with PeakMemory() as memory:
        case()
    return statistics.median(times), memory.peak


def axes(model: svd.SVDModel, chosen: Setting) -> dict[str, list[Point]]:
    """Return the points of every axis."""
    frames, height, width = chosen.clip
    config = model.config

    def clip(*, frames: int = frames, width: int = width, height: int = height, steps: int = 2) -> Callable:
        settings = svd.AnimateSettings(frames=frames, width=width, height=height, steps=steps)
        picture = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))
        return lambda: svd.animate(model, picture, settings)

    def law(**given: int) -> float:
        return operations(config, **{"frames": frames, "width": width, "height": height, "steps": 2} | given)

    longer = [Point(n, clip(frames=n), law(frames=n), real(n, 1024, 576)) for n in FRAMES]
    larger = [Point(w * h, clip(width=w, height=h), law(width=w, height=h), real(25, w, h)) for w, h in SIZES]
    finer = [Point(n, clip(steps=n), law(steps=n), real(25, 1024, 576, n)) for n in STEPS]
    one = clip()
    more = [Point(n, lambda n=n: [one() for _ in range(n)], n * law()) for n in CLIPS]
    terms = [random_terms(model, seed) for seed in range(max(LORAS))]
    merged = [Point(n, lambda n=n: with_terms(model.unet, together(terms[:n])), n) for n in LORAS]
    return {"frames": longer, "pixels": larger, "steps": finer, "clips": more, "LoRAs merged": merged}


def random_terms(model: svd.SVDModel, seed: int) -> dict[str, LoraLayer]:
    """Return a LoRA of rank 8 for every matrix of the UNet."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: LoraLayer(
            torch.randn(RANK, weight.shape[1], generator=generator) * 1e-3,
            torch.randn(weight.shape[0], RANK, generator=generator) * 1e-3,
            1.0,
        )
        for name, weight in model.unet.named_parameters()
        if weight.ndim == 2
    }


def together(loras: Sequence[dict[str, LoraLayer]]) -> dict[str, tuple[tuple[LoraLayer, float], ...]]:
    """Return what several LoRAs add, at strength 1."""
    return {name: tuple((lora[name], 1.0) for lora in loras) for name in loras[0]}


def operations(config: SVDConfig, *, frames: int, width: int, height: int, steps: int) -> float:
    """Return the operations of a guided clip."""
    return math.fsum(stage.flops for stage in stages_of(config, frames, width, height, steps=steps))


def real(frames: int, width: int, height: int, steps: int = 25) -> tuple[float, float]:
    """Return operations and peak bytes, weights in float16 included, of a clip at SVD's own width."""
    stages = stages_of(SVDConfig(), frames, width, height, steps=steps)
    return math.fsum(stage.flops for stage in stages), max(stage.weights + stage.activations for stage in stages)
