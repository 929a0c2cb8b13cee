"""`svd-reel lab IMAGE`: a grid of quick clips on one sheet, a table, and the best clip at full quality."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..checkpoints.networks_by_name import check_networks, load_networks
from ..files import printable, write_text
from ..lab.grid import Grid, parse_list
from ..lab.scores import SCORES, Aim
from ..lab.sheet import SHOWN, draw_sheet
from ..lab.sweep import FEW_STEPS, Sweep, count_from, full_settings, run_sweep
from ..pictures import open_picture
from ..pictures.sheets import to_picture
from ..pipelines.settings import STEERED_BUCKET, AnimateSettings
from ..pipelines.steered import NETWORKS, check_steering, open_steering, steered_clip, steering_metadata
from ..version import __version__
from ..video import check_output, write_clip
from .models import load_named_model
from .networks import add_camera_weights, add_controlnet
from .options import add_machine_options, add_model_options, add_settings, lora_metadata, model_files
from .outputs import check_outputs, check_page, save_page
from .progress import Progress
from .steering import option_of, steering_of

BUCKETS = "60, 127, 200"


def add_lab(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lab`."""
    parser.description = "Make a quick clip for every combination of the lists, measure the clips, and draw one sheet."
    parser.set_defaults(run=run_lab)
    parser.add_argument("image", metavar="IMAGE", help="picture to start from")
    add_model_options(parser)
    _add_grid_options(parser.add_argument_group("values to try, separated by commas"))
    _add_best_options(parser.add_argument_group("the best clip"))
    _add_clip_options(parser.add_argument_group("clips"))
    add_controlnet(parser.add_argument_group("ControlNet of all clips"))
    add_camera_weights(parser.add_argument_group("camera by weights, in all clips"))
    output = parser.add_argument_group("output and machine")
    output.add_argument("--output", metavar="SHEET.png", required=True, help="sheet to write: .png, .jpg or .webp")
    output.add_argument(
        "--shows",
        choices=tuple(SHOWN),
        default="first, middle, last",
        help="frames of each clip on the sheet (default: first, middle, last)",
    )
    output.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    output.add_argument("--csv", metavar="FILE", help="write the table to this file")
    add_machine_options(output)


def _add_grid_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--buckets",
        metavar="LIST",
        help=f"motion buckets, 1 to 255 (default: {BUCKETS}; with --camera {STEERED_BUCKET} only)",
    )
    group.add_argument("--seeds", default="23", metavar="LIST", help="seeds of the noise (default: %(default)s)")
    group.add_argument(
        "--sigma-max",
        metavar="LIST",
        help="highest noise levels, 50 to 700; lower ones keep the picture steadier (default: 700 only)",
    )
    group.add_argument(
        "--strengths", metavar="LIST", help="strengths of --camera, 0.5 to 2 (default: --camera-strength only)"
    )
    group.add_argument(
        "--fps", metavar="LIST", help="frames per second the motion is meant for, 6 to 30 (default: 7 only)"
    )


def _add_best_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--score",
        choices=tuple(SCORES),
        default="closest",
        help="what makes a clip the best: motion closest to --motion, most motion within --drift, or the steadiest "
        "(default: closest)",
    )
    group.add_argument(
        "--motion",
        type=float,
        metavar="PERCENT",
        help="motion wanted by --score closest, in %% of the width per frame: 0.3 is calm, 2 lively (default: 1)",
    )
    group.add_argument(
        "--drift",
        type=float,
        metavar="PERCENT",
        help='drift allowed by --score "most motion", in %%; 1000 allows any (default: 5)',
    )
    group.add_argument("--clip", metavar="CLIP", help="make the best clip again with all steps and write it here")
    group.add_argument("--full-steps", type=int, metavar="N", help="steps of --clip (default: the model's own)")


def _add_clip_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--steps", type=int, default=FEW_STEPS, help="steps of the quick clips, 4 to 12 (default: %(default)s)"
    )
    for name in ("--width", "--height", "--frames"):
        group.add_argument(name, type=int, help="smaller is faster (default: the model's own)")
    group.add_argument(
        "--augmentation", type=float, metavar="SIGMA", help="noise on the start picture, 0 to 0.1 (default: 0.02)"
    )
    group.add_argument(
        "--fit", choices=("crop", "pad", "stretch"), help="how the picture fills another aspect (default: crop)"
    )
    add_settings(group, "camera", "camera_strength", "camera_mode")


def _steering_by_name(options: argparse.Namespace) -> dict[str, object]:
    """Return the networks and their options that all clips share, by the names of Steering, checked as files."""
    given = steering_of(options)
    check_networks(given)
    return given


def run_lab(options: argparse.Namespace) -> None:
    """Print the table and write the files asked for; bad input is found before the model is loaded."""
    for name in ("strengths", "camera_strength", "camera_mode"):
        if vars(options)[name] is not None and not (options.camera or options.camera_poses):
            raise ValueError(
                f"--{name.replace('_', '-')} has no effect without --camera PATH; add that, or leave it out"
            )
    if options.strengths and options.camera_strength is not None:
        raise ValueError("--strengths replaces --camera-strength; leave one of them out")
    moved = options.camera or options.camera_poses
    buckets = BUCKETS if options.buckets is None and not moved else options.buckets
    grid = Grid(
        _parse_values(buckets, "--buckets"),
        _parse_values(options.seeds, "--seeds", whole=True),
        _parse_values(options.sigma_max, "--sigma-max"),
        _parse_values(options.fps, "--fps"),
        _parse_values(options.strengths, "--strengths"),
    )
    aim = _aim(options)
    _check_files(options, grid)
    names = ("width", "height", "frames", "augmentation", "fit", "camera", "camera_strength", "camera_mode")
    settings = AnimateSettings(**{name: vars(options)[name] for name in names if vars(options)[name] is not None})
    config = inspect_checkpoint(options.model).config
    quick = replace(settings, steps=options.steps)
    given = _steering_by_name(options)
    steering = open_steering(given)
    for cell in grid.cells(quick):
        check_steering(steering, cell.resolve(config), name_of=option_of)
    full = replace(settings, steps=options.full_steps).resolve(config).steps if options.clip else 0
    picture = open_picture(options.image)
    with Progress(options.quiet) as progress:
        model = load_named_model(options, progress)
        steering = replace(steering, **load_networks({name: given[name] for name in NETWORKS if name in given}, model))
        progress.say(f"{options.image}: {grid.count} clips")
        report = {"shown": SHOWN[options.shows], "on_step": progress.on_step, "steps_after": full}
        sweep = run_sweep(model, picture, quick, grid, aim, steering, **report)
        _write(options, sweep)
        print(sweep.text(), flush=True)
        if options.clip:
            best = full_settings(settings, sweep.best, options.full_steps, model)
            done = sum(cell.settings.steps for cell in sweep.cells)
            on_step = count_from(progress.on_step, done, done + full)
            frames = steered_clip(model, picture, best, steering, on_step=on_step)
            metadata = {"image": Path(options.image).name, "model": Path(options.model).name, "variant": model.variant}
            metadata |= {"version": __version__, **asdict(best), **lora_metadata(options)}
            metadata |= steering_metadata(given)
            print(write_clip(frames, options.clip, fps=best.fps, metadata=metadata), flush=True)


def _parse_values(text: str | None, name: str, *, whole: bool = False) -> tuple:
    """Return the numbers of a list, none where the option was left out."""
    if text is None:
        return ()
    numbers = parse_list(text, name, whole=whole)
    if not numbers:
        raise ValueError(
            f"{name} is empty (got {printable(text)!r}); give numbers separated by commas, or leave it out"
        )
    return numbers


def _aim(options: argparse.Namespace) -> Aim:
    """Return what the best clip is chosen by. Raises ValueError for a number that the score does not use."""
    wanted = {}
    for name, score in (("motion", "closest"), ("drift", "most motion")):
        value = getattr(options, name)
        if value is None:
            continue
        if options.score != score:
            raise ValueError(
                f'--{name} {value:g} only applies to --score "{score}" (score is "{options.score}"); leave one of them '
                "out"
            )
        wanted[name] = value
    return Aim(options.score, **wanted)


def _check_files(options: argparse.Namespace, grid: Grid) -> None:
    """Check what will be written, before minutes of sampling."""
    check_page("--output", options.output)
    if options.full_steps is not None and not options.clip:
        raise ValueError(f"--full-steps {options.full_steps} has no effect without --clip; add --clip, or leave it out")
    inputs = {"IMAGE": options.image, **model_files(options)}
    outputs = {"--output": options.output, "--json": options.json, "--csv": options.csv}
    folder = Path(options.clip) if options.clip and Path(options.clip).is_dir() else None
    # A folder of frames may be replaced, so check_outputs must not refuse it.
    check_outputs({**outputs, "--clip": None if folder else options.clip}, inputs)
    for name, path in {**inputs, **outputs}.items():
        if folder and path and folder.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
            raise ValueError(f"{name} {path} is inside --clip {folder}, which is replaced; choose another name")
    if options.clip:
        # The best clip may have any of these rates.
        for fps in grid.fps or (AnimateSettings.fps,):
            check_output(options.clip, fps=fps)


def _write(options: argparse.Namespace, sweep: Sweep) -> None:
    """Write the sheet and the tables, each whole or not at all."""
    title = f"Motion lab, {Path(options.image).name}"
    save_page(to_picture(draw_sheet(sweep, title)), options.output)
    for path, text in ((options.json, sweep.to_json() + "\n"), (options.csv, sweep.to_csv())):
        if path:
            write_text(path, text)
