"""Measures every control on photographs that nano never saw, and writes numbers and pictures into docs/:

    python -m recipes.control.measure [--model nano|FILE] [--steps 10] [--photographs coffee camera FILE.jpg ...]

Replaces what stands between the two marks in docs/control.md, and docs/control_sheet.jpg. A few minutes on one core.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import svd_core as svd
from svd_core.models.vae import LATENT_SCALE
from svd_core.motion.brush import motion_brush
from svd_core.motion.drag import drag_signal, parse_drag
from svd_core.motion.inbetween_clip import inbetween, loop
from svd_core.motion.signal import DualClock
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.report.measuring import measure

from ..nano.photographs import HELD_OUT, load_photograph
from .sheet import Table, write_sheet, write_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
CALM, LIVELY = 10, 200  # motion buckets
# Asked over the whole clip, and the sign of what is measured: content goes the other way than the camera.
SWEEP: dict[str, tuple[tuple[str, float], ...]] = {
    "pan": (("pan left 0.2", -0.2), ("pan left 0.1", -0.1), ("pan right 0.1", 0.1), ("pan right 0.2", 0.2)),
    "tilt": (("tilt down 0.2", -0.2), ("tilt down 0.1", -0.1), ("tilt up 0.1", 0.1), ("tilt up 0.2", 0.2)),
    "zoom": (("zoom out 1.3", 1 / 1.3), ("zoom out 1.15", 1 / 1.15), ("zoom in 1.15", 1.15), ("zoom in 1.3", 1.3)),
    "roll": (("roll ccw 12", -12), ("roll ccw 6", -6), ("roll cw 6", 6), ("roll cw 12", 12)),
}


class Bench:
    """One model and one photograph, and what all measures share."""

    def __init__(self, model: svd.SVDModel, name: str, steps: int) -> None:
        self.model, self.name, self.steps = model, Path(name).stem, steps
        known = name in HELD_OUT
        self.photograph = load_photograph(name)[None] if known else as_batch(open_picture(name))
        self.width, self.height, self.frames = model.config.width, model.config.height, model.config.frames
        self.picture, _ = fit(self.photograph, self.width, self.height)
        self.image = ((self.picture[0].movedim(0, -1) + 1) / 2).clamp(0, 1)  # [H, W, 3]

    def clip(self, *, controls: tuple = (), **settings) -> Tensor:
        """Animate the photograph: [T, H, W, 3]."""
        chosen = svd.AnimateSettings(**({"steps": self.steps, "seed": 23} | settings))
        return svd.animate(self.model, self.picture, chosen, controls=controls)

    def settings(self, **more) -> svd.AnimateSettings:
        """Settings of this run."""
        return svd.AnimateSettings(**({"steps": self.steps, "seed": 23, "motion_bucket": LIVELY} | more))

    def round_trip(self, picture: Tensor) -> Tensor:
        """What the autoencoder alone makes of a picture: [H, W, 3], the most that any clip can show of it."""
        decoded = self.model.decode(self.model.encode_latent(picture) * LATENT_SCALE)
        return ((decoded[0].movedim(0, -1) + 1) / 2).clamp(0, 1)


def psnr(one: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in 0..1, 99 at most."""
    error = (one - other).square().mean().clamp(min=10**-9.9)
    return float(-10 * error.log10())


def measured_move(kind: str, clip: Tensor) -> float:
    """The camera's move over the clip, in the unit that it is asked in, from the shared motion of the picture."""
    report = measure(clip)
    total, steps = report.summary(), len(clip) - 1
    if kind == "pan":
        return -total["pan_x_percent"] / 100 * steps
    if kind == "tilt":
        return total["pan_y_percent"] / 100 * steps
    return total["zoom"] ** steps if kind == "zoom" else -total["roll"] * steps


def camera(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """Asked against measured moves."""
    table = tables.setdefault(
        "Camera: asked and measured over the clip",
        Table(("photograph", "move", "asked", "measured", "correlation", "signs"), "at least 0.9, all signs right"),
    )
    for kind, sweep in SWEEP.items():
        found = []
        for path, _ in sweep:
            clip = bench.clip(camera=path, camera_strength=1.5, motion_bucket=CALM)
            found.append(measured_move(kind, clip))
            if path == sweep[-1][0]:
                rows.append((f"{bench.name}: {path}", clip))
        asked = torch.tensor([amount for _, amount in sweep], dtype=torch.float64)
        got = torch.tensor(found, dtype=torch.float64)
        if kind == "zoom":
            asked, got = asked.log(), got.log()
        agreement = float(torch.corrcoef(torch.stack([asked, got]))[0, 1])
        signs = int((asked.sign() == got.sign()).sum())
        shown = [
            " ".join(f"{v:+.2f}" if kind != "roll" else f"{v:+.1f}" for v in values)
            for values in ([amount for _, amount in sweep], found)
        ]
        table.add(
            (bench.name, kind, *shown, f"{agreement:.3f}", f"{signs}/{len(sweep)}"),
            agreement >= 0.9 and signs == len(sweep),
        )


def mask(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """The left half moves, the right stands still; both sides are measured by themselves."""
    table = tables.setdefault(
        "Motion mask: flow where nothing may move over flow elsewhere, and the still there",
        Table(
            ("photograph", "kept", "flow still px", "flow moving px", "share", "still against picture"),
            "at most 15 %, at least 30 dB with the still kept",
        ),
    )
    masks = torch.zeros(1, 1, bench.height, bench.width)
    middle = bench.width // 2
    masks[..., :middle] = 1.0
    for keep in (True, False):
        brush = motion_brush(bench.model.encode_latent, bench.picture, masks, keep_still=keep)
        clip = bench.clip(controls=(brush,), motion_bucket=LIVELY)
        still, moving = (
            measure(part.contiguous()).summary()["motion"] for part in (clip[:, :, middle:], clip[:, :, :middle])
        )
        quality = psnr(clip[:, :, middle:], bench.image[:, middle:].expand(len(clip), -1, -1, -1))
        share = still / max(moving, 1e-6)
        table.add(
            (
                bench.name,
                "yes" if keep else "no",
                f"{still:.3f}",
                f"{moving:.2f}",
                f"{100 * share:.1f} %",
                f"{quality:.1f} dB",
            ),
            share <= 0.15 and (quality >= 30 or not keep),
        )
        if keep:
            rows.append((f"{bench.name}: left half moves", clip))


def drag(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """A disc in the middle dragged to the right."""
    table = tables.setdefault(
        "Cut and drag: the last frame where the object ends, against the pasted one",
        Table(("photograph", "against pasted", "against the picture"), "nearer to the pasted frame"),
    )
    y, x = torch.meshgrid(torch.linspace(-1, 1, bench.height), torch.linspace(-1, 1, bench.width), indexing="ij")
    disc = ((x.square() + y.square()).sqrt() < 0.4).float()[None, None]
    made = drag_signal(
        bench.model.encode_latent, bench.picture, [(disc, parse_drag("0.5,0.5; 0.72,0.5"))], bench.frames
    )
    clip = bench.clip(controls=(DualClock(made.signal, 2.0),), motion_bucket=CALM)
    pasted = ((made.warped.frames[-1].movedim(0, -1) + 1) / 2).clamp(0, 1)
    area = disc[0, 0].roll(round(0.22 * bench.width), 1) > 0.5
    near, far = psnr(clip[-1][area], pasted[area]), psnr(clip[-1][area], bench.image[area])
    table.add((bench.name, f"{near:.1f} dB", f"{far:.1f} dB"), near > far)
    rows.append((f"{bench.name}: dragged to the right", clip))


def between(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """From one crop of the photograph to another."""
    table = tables.setdefault(
        "In-betweens: the end frame, and the largest step",
        Table(
            ("photograph", "end frame", "the autoencoder alone", "largest step"),
            "at least 22 dB, at most 2.5 times the median",
        ),
    )
    height, width = bench.photograph.shape[2:]
    crops = [
        bench.photograph[..., : height - height // 10, : width - width // 10],
        bench.photograph[..., height // 10 :, width // 10 :],
    ]
    clip = inbetween(bench.model, crops, bench.settings())
    end, _ = fit(crops[1], bench.width, bench.height)
    quality = psnr(clip[-1], ((end[0].movedim(0, -1) + 1) / 2).clamp(0, 1))
    ceiling = psnr(bench.round_trip(end), ((end[0].movedim(0, -1) + 1) / 2).clamp(0, 1))
    largest = measure(clip).largest_step
    table.add(
        (bench.name, f"{quality:.1f} dB", f"{ceiling:.1f} dB", f"{largest:.2f}"), quality >= 22 and largest <= 2.5
    )
    rows.append((f"{bench.name}: in-betweens", clip))


def loops(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """A loop of one picture, each way."""
    table = tables.setdefault(
        "Loops: the step from the last frame to the first over the median step",
        Table(("photograph", "mode", "steps", "score"), "at most 1.5"),
    )
    for mode, steps in (("blend", bench.steps), ("take turns", max(20, bench.steps)), ("roll", max(25, bench.steps))):
        clip = loop(bench.model, bench.picture, bench.settings(steps=steps), mode=mode)
        score = measure(clip).loop_score
        table.add((bench.name, mode, str(steps), f"{score:.2f}"), score <= 1.5)
    rows.append((f"{bench.name}: loop, {mode}", clip))


def windows(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """Sixty frames in windows of the model's own length."""
    table = tables.setdefault(
        "Windows: 60 frames, the step at window borders over the step elsewhere",
        Table(("photograph", "ratio"), "at most 1.20"),
    )
    settings = bench.settings(frames=60, windows=bench.frames).resolve(bench.model.config)
    clip = svd.animate(bench.model, bench.picture, settings)
    borders = {start for window in settings.length_controls() for start in window.starts(60)[1:]}
    step = torch.tensor(measure(clip).step)
    at = torch.tensor([index + 1 in borders for index in range(len(step))])
    ratio = float(step[at].mean() / step[~at].mean().clamp(min=1e-6))
    table.add((bench.name, f"{ratio:.2f}"), ratio <= 1.2)
    rows.append((f"{bench.name}: 60 frames", clip))


def extension(bench: Bench, tables: dict[str, Table], rows: list) -> None:
    """Four clips, each going on from the one before; calm, because what moves into view is no drift."""
    table = tables.setdefault(
        "Extension over four clips: the last clip against the first",
        Table(("photograph", "mean colour", "contrast"), "both under 3 %"),
    )
    overlap = min(4, bench.frames - 1)
    clip = bench.clip(extend=3 * (bench.frames - overlap), extend_overlap=overlap, motion_bucket=CALM)
    first, last = clip[: bench.frames], clip[-bench.frames :]
    colour = 100 * float((last.mean((0, 1, 2)) - first.mean((0, 1, 2))).abs().max())
    contrast = 100 * float(last.mean(-1).std((1, 2)).mean() / first.mean(-1).std((1, 2)).mean() - 1)
    table.add((bench.name, f"{colour:.2f} %", f"{contrast:+.2f} %"), colour < 3 and abs(contrast) < 3)
    rows.append((f"{bench.name}: four clips", clip))


MEASURES: dict[str, Callable[[Bench, dict[str, Table], list], None]] = {
    function.__name__: function for function in (mask, drag, between, loops, extension, windows, camera)
}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--photographs", nargs="+", default=["coffee", "camera", "rocket"], metavar="NAME|FILE")
    parser.add_argument("--only", nargs="+", choices=tuple(MEASURES), default=list(MEASURES))
    parser.add_argument("--docs", type=Path, default=DOCS)
    arguments = parser.parse_args()
    model, tables, rows = svd.load_model(arguments.model), {}, []
    started = time.monotonic()
    size = f"{model.config.frames} frames of {model.config.width}x{model.config.height}"
    how = f"`{arguments.model}`, {size}, {arguments.steps} steps"
    for number, name in enumerate(arguments.photographs):
        bench = Bench(model, name, arguments.steps)
        for measure_name in arguments.only:
            if number and measure_name == "windows":
                continue  # one long clip is enough
            shown: list[tuple[str, Tensor]] = []
            MEASURES[measure_name](bench, tables, shown)
            rows += shown if number == 0 else []
            print(f"{name}: {measure_name}, {time.monotonic() - started:.0f} s", flush=True)
            # As it goes, so that a run that is cut short leaves what it has found.
            write_tables(arguments.docs / "control.md", tables, how)
            write_sheet(arguments.docs / "control_sheet.jpg", rows)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
