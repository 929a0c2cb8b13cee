"""`python -m svd_core lab IMAGE`: a grid of quick clips on one sheet, a table, and the best clip."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..files import write_text
from ..lab.grid import Grid, parse_list
from ..lab.scores import SCORES, Aim
from ..lab.sheet import SHOWN, draw_sheet
from ..lab.sweep import FEW_STEPS, Sweep, count_from, full_settings, run_sweep
from ..pictures import open_picture
from ..pictures.sheets import to_picture
from ..pipelines.clip import AnimateSettings, animate
from ..sampling.solvers import Step
from ..version import __version__
from ..video import check_output, write_clip
from .models import load_named_model
from .options import add_machine_options, add_model_options, lora_metadata, model_files
from .outputs import PAGE_KINDS, check_outputs, save_page
from .progress import Progress


def add_lab(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lab`."""
    parser.description = "Make a quick clip for every combination of the lists, measure them, and draw one sheet."
    parser.set_defaults(run=run_lab)
    parser.add_argument("image", metavar="IMAGE", help="picture to start from")
    add_model_options(parser)
    grid = parser.add_argument_group("what to try, numbers separated by commas")
    grid.add_argument("--buckets", default="60, 127, 200", metavar="LIST", help="motion buckets (default: %(default)s)")
    grid.add_argument("--seeds", default="23", metavar="LIST", help="seeds (default: %(default)s)")
    grid.add_argument("--sigma-max", metavar="LIST", help="first noise levels (default: 700 alone)")
    grid.add_argument("--fps", metavar="LIST", help="frames per second of the motion (default: 7 alone)")
    best = parser.add_argument_group("the best")
    best.add_argument("--score", choices=tuple(SCORES), default="closest", help="what is best (default: closest)")
    best.add_argument(
        "--motion", type=float, metavar="PERCENT", help="wanted motion of closest, of the width a frame (default: 1)"
    )
    best.add_argument("--drift", type=float, metavar="PERCENT", help="drift that most motion may have (default: 5)")
    best.add_argument("--clip", metavar="CLIP", help="make the best with all steps and write it to this clip")
    best.add_argument("--full-steps", type=int, metavar="N", help="steps of that clip (default: the model's own)")
    clip = parser.add_argument_group("clips")
    clip.add_argument("--steps", type=int, default=FEW_STEPS, help="steps of the quick clips (default: %(default)s)")
    for name in ("--width", "--height", "--frames"):
        clip.add_argument(name, type=int, help="default: the model's own")
    clip.add_argument("--augmentation", type=float, metavar="SIGMA", help="noise on the picture (default: 0.02)")
    clip.add_argument("--fit", choices=("crop", "pad", "stretch"), help="default: crop")
    clip.add_argument("--camera", metavar="PATH", help="camera path in words, the same for all")
    output = parser.add_argument_group("output and machine")
    output.add_argument("--output", metavar="SHEET.png", required=True, help="the sheet")
    output.add_argument("--shows", choices=tuple(SHOWN), default="first, middle, last", help="frames of each clip")
    output.add_argument("--json", metavar="FILE", help="write every number to this file")
    output.add_argument("--csv", metavar="FILE", help="write the table to this file")
    add_machine_options(output)


def run_lab(options: argparse.Namespace) -> None:
    """Print the table and write what was asked for; whatever can be found wrong is found before the model is loaded."""
    grid = Grid(
        _given_list(options.buckets, "--buckets"),
        _given_list(options.seeds, "--seeds", whole=True),
        _given_list(options.sigma_max, "--sigma-max"),
        _given_list(options.fps, "--fps"),
    )
    aim = _aim(options)
    _check_files(options, grid)
    names = ("width", "height", "frames", "augmentation", "fit", "camera")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    settings = AnimateSettings(**given)
    config = inspect_checkpoint(options.model).config
    for cell in grid.cells(replace(settings, steps=options.steps)):
        cell.resolve(config)
    full = replace(settings, steps=options.full_steps).resolve(config).steps if options.clip else 0
    picture = open_picture(options.image)
    progress = Progress(options.quiet)
    model = load_named_model(options, progress)
    progress.say(f"{options.image}: {grid.count} clips")

    def on_step(step: Step) -> None:
        progress.count("step", step.index + 1, step.steps)

    quick = replace(settings, steps=options.steps)
    given = {"shown": SHOWN[options.shows], "on_step": on_step, "steps_after": full}
    sweep = run_sweep(model, picture, quick, grid, aim, **given)
    _write(options, sweep)
    print(sweep.text(), flush=True)
    if options.clip:
        best = full_settings(settings, sweep.best, options.full_steps, model)
        done = sum(cell.settings.steps for cell in sweep.cells)
        frames = animate(model, picture, best, on_step=count_from(on_step, done, done + full))
        metadata = {"image": Path(options.image).name, "model": Path(options.model).name, "variant": model.variant}
        metadata |= {"version": __version__, **asdict(best), **lora_metadata(options)}
        print(write_clip(frames, options.clip, fps=best.fps, metadata=metadata), flush=True)


def _given_list(text: str | None, name: str, *, whole: bool = False) -> tuple:
    """The numbers of a list; none where the option is left out."""
    if text is None:
        return ()
    numbers = parse_list(text, name, whole=whole)
    if not numbers:
        raise ValueError(f"{name} is {text!r}, an empty list; give numbers separated by commas, or leave it out")
    return numbers


def _aim(options: argparse.Namespace) -> Aim:
    """What is looked for; numbers that the score would not look at are refused."""
    wanted = {}
    for name, score in (("motion", "closest"), ("drift", "most motion")):
        value = getattr(options, name)
        if value is None:
            continue
        if options.score != score:
            raise ValueError(
                f"--{name} {value:g} counts with --score {score!r} alone, and the score is {options.score!r}; "
                "leave one of them out"
            )
        wanted[name] = value
    return Aim(options.score, **wanted)


def _check_files(options: argparse.Namespace, grid: Grid) -> None:
    """Find what cannot be written before minutes of sampling."""
    if Path(options.output).suffix.lower() not in PAGE_KINDS:
        raise ValueError(f"--output {options.output} is no picture; use {', '.join(PAGE_KINDS)}")
    if options.full_steps is not None and not options.clip:
        raise ValueError(f"--full-steps {options.full_steps} are those of --clip; give --clip, or leave them out")
    inputs = {"IMAGE": options.image, **model_files(options)}
    outputs = {"--output": options.output, "--json": options.json, "--csv": options.csv}
    folder = Path(options.clip) if options.clip and Path(options.clip).is_dir() else None
    # A folder of frames may be written again, so it is looked at by itself.
    check_outputs({**outputs, "--clip": None if folder else options.clip}, inputs)
    for name, path in {**inputs, **outputs}.items():
        if folder and path and folder.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
            raise ValueError(f"{name} {path} lies in --clip {folder}, which is replaced; choose another name")
    if options.clip:
        # Any of the rates may turn out to be that of the best.
        for fps in grid.fps or (AnimateSettings.fps,):
            check_output(options.clip, fps=fps)


def _write(options: argparse.Namespace, sweep: Sweep) -> None:
    """The sheet and the tables, each whole or not at all."""
    title = f"Motion lab, {Path(options.image).name}"
    save_page(to_picture(draw_sheet(sweep, title)), options.output)
    for path, text in ((options.json, sweep.to_json() + "\n"), (options.csv, sweep.to_csv())):
        if path:
            write_text(path, text)
