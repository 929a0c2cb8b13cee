"""Measure every control on photographs outside nano's training data, and write numbers and pictures into docs/:

    python -m recipes.control.measure [--model nano|FILE] [--quick] [--photographs coffee camera FILE.jpg ...]

Replaces the tables between the markers in docs/control.md, and docs/control_sheet.jpg. It takes about five minutes on
two cores. --quick measures one photograph with few steps in a minute; use it with --docs to try things out.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

import svd_core as svd
from svd_core.pipelines.between import LOOP_MODES
from svd_core.pipelines.settings import STEERED_BUCKET

from ..nano.photographs import HELD_OUT
from . import camera, measures
from .bench import LIVELY, SEED, Bench, Found
from .costs import write_costs
from .sheet import DOCS, Table, write_sheet, write_tables

STEPS, QUICK_STEPS = 10, 6
FRAMES = 8  # at most; models with longer clips would take longer to measure
WIDE = (192, 128)
TABLES = measures.HEADS | {
    camera.TITLE: (
        ("photograph", "mode", "move", "asked", "measured", "slope", "correlation", "signs", "last frame's sharpness"),
        "default strength and bucket; slope 0.85 to 1.1, correlation at least 0.98, all signs right, at least 45 % as "
        "sharp as the first frame",
    )
}
KINDS = ("mask", "drag", "between", "loops", "extension", "windows", "camera")

Job = tuple[str, Callable[[], Found]]
"""The kind of a measurement, and a function that measures one photograph."""


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield all measurements, in the order of the tables' rows."""
    steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    for number, name in enumerate(options.photographs[: 1 if options.quick else None]):
        given = partial(run, options.model, name, steps, options.frames)
        few = partial(run, options.model, name, min(steps, QUICK_STEPS), options.frames)  # many passes a step
        yield from ((one.__name__, partial(given, one)) for one in (measures.mask, measures.drag, measures.between))
        for mode in LOOP_MODES:
            yield "loops", partial(given, measures.loops, mode=mode, own_steps=number < 2 and not options.quick)
        for bucket in measures.BUCKETS[: 2 if number == 0 else 1]:
            yield "extension", partial(given, measures.extension, bucket=bucket)
        if not options.quick:
            yield "windows", partial(few, measures.windows)
        for kind in camera.SWEEP:
            yield "camera", partial(given, camera.moves, kind=kind)
        if number < 2 and not options.quick:
            for mode in camera.OTHER_MODES:
                yield "camera", partial(given, camera.modes, mode=mode)
        if number == 0 and not options.quick:
            yield "camera", partial(given, camera.another, size=WIDE)


def run(model: str, name: str, steps: int, frames: int, measure: Callable[..., Found], size=None, **more) -> Found:
    """Run one measurement; its process keeps the model loaded for the next one."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        return measure(Bench(model, name, steps, frames, size), **more)


def write(docs: Path, how: str, found: list[Found], first: str) -> None:
    """Write the tables, and the sheet with the clips of the first photograph and all zooms."""
    tables: dict[str, Table] = {}
    rows = [row for one in found for row in one.rows]
    for title, (head, wanted) in TABLES.items():
        for row in (row for row in rows if row.title == title):
            tables.setdefault(title, Table(head, wanted)).add(row.words, row.met)
    write_tables(docs / "control.md", tables, how)
    clips = [clip for one in found for clip in one.clips]
    shown = [(label, clip) for label, clip in clips if label.startswith(f"{first}:") or ": zoom" in label]
    write_sheet(docs / "control_sheet.jpg", shown)


def main() -> None:
    """Read the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, help=f"default: {STEPS}")
    parser.add_argument("--frames", type=int, help=f"default: the model's own, {FRAMES} at most")
    parser.add_argument("--photographs", nargs="+", default=list(HELD_OUT), metavar="NAME|FILE")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--quick", action="store_true", help=f"one photograph, {QUICK_STEPS} steps, usual modes only")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    config = svd.load_model(options.model).config
    options.frames = options.frames or min(config.frames, FRAMES)
    started, found = time.monotonic(), []
    chosen = [job for job in jobs(options) if job[0] in options.only]
    with ProcessPoolExecutor(options.processes) as pool:
        running = [(kind, pool.submit(job)) for kind, job in chosen]
        for kind, result in running:
            found.append(result.result())
            print(f"{kind}, {time.monotonic() - started:.0f} s", flush=True)
            for row in found[-1].rows:
                print("  " + " | ".join((*row.words, "yes" if row.met else "NO")), flush=True)
    size = f"{options.frames} frames of {config.width}x{config.height}"
    steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    how = (
        f"`{options.model}`, {size}, {steps} steps, seed {SEED}, default strengths; motion bucket {LIVELY} where a "
        f"control does not choose its own ({STEERED_BUCKET}) and the table names none"
    )
    write(options.docs, how, found, Path(options.photographs[0]).stem)
    write_costs(options.docs / "control.md")


if __name__ == "__main__":
    main()
