"""`python -m svd_core storyboard FILE`: a film of panels, streamed to the encoder, with contact sheet and timing."""

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoints import inspect_checkpoint
from ..checkpoints.load import NANO
from ..files import check_writable, write_text
from ..lora.read import read_lora_options, split_lora_option
from ..pictures import composite, open_picture
from ..pictures.sheets import to_picture
from ..pipelines.settings import AnimateSettings
from ..sampling.solvers import Step
from ..storyboard.clips import LONGER, ClipStore, shot_key
from ..storyboard.film import FADE, Film, draw_contact_sheet, film_frames, plan_film, sheet_frame
from ..storyboard.panels import Board, Panel, read_board
from ..version import __version__
from ..video import check_output, write_clip
from .models import load_named_model
from .options import add_machine_options, add_model_options, lora_metadata, model_files
from .outputs import PAGE_KINDS, check_outputs, save_page
from .progress import Progress

SETTINGS = ("width", "height", "steps", "augmentation", "fit", "background", "motion_bucket", "seed", "fps")


def add_storyboard(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `storyboard`."""
    parser.description = "Make a clip of every panel and join them to one film. A stopped run goes on where it was."
    parser.set_defaults(run=run_storyboard)
    parser.add_argument(
        "board",
        metavar="FILE|FOLDER",
        help=".csv or .json with the columns image, seconds, move, bucket, seed, transition, fade, title; or a folder "
        "of pictures",
    )
    add_model_options(parser)
    parser.add_argument("--output", required=True, metavar="FILM", help="film to write: .mp4, .webm, .webp, .gif")
    parser.add_argument("--sheet", metavar="SHEET.png", help="write a contact sheet to this picture")
    parser.add_argument("--timing", metavar="FILE.csv", help="write the timing table to this file")
    parser.add_argument(
        "--panels", metavar="FOLDER", help="where finished clips are kept (default: FILM.panels beside the film)"
    )
    panels = parser.add_argument_group("what panels leave open")
    panels.add_argument("--seconds", type=float, help="time of a panel (default: the model's own clip)")
    panels.add_argument("--move", metavar="PATH", help='camera move in words, such as "zoom in 1.1"')
    panels.add_argument("--motion-bucket", type=float, metavar="N", help="amount of motion, 1 to 255 (default: 127)")
    panels.add_argument("--seed", type=int, help="of the noise (default: 23)")
    panels.add_argument("--transition", choices=("cut", "cross-fade"), help="how panels begin (default: cut)")
    panels.add_argument("--fade", type=float, metavar="SECONDS", help=f"length of cross-fades (default: {FADE})")
    film = parser.add_argument_group("film")
    film.add_argument("--fps", type=float, help="frames per second that the motion is meant for (default: 7)")
    film.add_argument("--film-fps", type=float, metavar="FPS", help="frames per second of the film (default: as --fps)")
    film.add_argument(
        "--longer",
        choices=LONGER,
        default="windows",
        help="panels longer than the model's clip: in overlapping windows, extended, or slower (default: windows)",
    )
    for name in ("--width", "--height", "--steps"):
        film.add_argument(name, type=int, help="default: the model's own")
    film.add_argument("--augmentation", type=float, metavar="SIGMA", help="noise on the pictures (default: 0.02)")
    film.add_argument("--fit", choices=("crop", "pad", "stretch"), help="pad leaves black borders (default: crop)")
    film.add_argument("--background", metavar="COLOUR", help="behind transparent pixels (default: white)")
    film.add_argument("--quality", type=int, default=90, metavar="0..100", help="default: %(default)s")
    add_machine_options(parser.add_argument_group("machine"))


def run_storyboard(options: argparse.Namespace) -> None:
    """Make the film; whatever can be found wrong is found before the model is loaded."""
    board = read_board(options.board)
    panels = Path(options.panels or f"{options.output}.panels")
    _check_files(options, board, panels)
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    settings = AnimateSettings(**given)
    defaults = Panel(
        seconds=options.seconds, move=options.move, transition=options.transition, fade=options.fade, row="the options"
    )
    config = inspect_checkpoint(options.model).config
    film = plan_film(board.panels, settings, config, fps=options.film_fps, longer=options.longer, defaults=defaults)
    timing, count = film.timing, len(board.panels)
    rate = float(timing.fps)
    check_output(options.output, fps=rate, quality=options.quality)

    def picture(number: int) -> Tensor:
        panel = board.panels[number]
        path = board.picture_path(panel)
        try:
            found = open_picture(path)
            composite(found, settings.background)
        except ValueError as error:
            raise ValueError(f"{panel.row}: {error}") from None
        return found

    store = ClipStore(panels)
    read_lora_options(options.lora)  # what is wrong with a file is said even where every clip is there
    name = _model_name(options)
    shots = list(zip(timing.shots, film.settings, strict=True))
    keys = [shot_key(picture(number), *shot, name) for number, shot in enumerate(shots)]
    progress = Progress(options.quiet)
    made = count - sum(store.finished(key) for key in keys)
    model = load_named_model(options, progress) if made else None
    progress.say(f"{count} panels, {made} to make, {timing.frames} frames")
    rows = [{**row, "clip": key} for row, key in zip(timing.rows(), keys, strict=True)]
    store.write_manifest(rows)
    shown: dict[int, Tensor] = {}

    def on_step(step: Step) -> None:
        progress.count("step", step.index + 1, step.steps)

    def on_frame(panel: int, index: int, frame: Tensor) -> None:
        if index == sheet_frame(timing.shots[panel].frames):
            shown[panel] = frame.clone()

    frames = film_frames(
        model, picture, film, store=store, model_name=name, on_step=on_step, on_frame=on_frame,
        on_clip=lambda number, new: progress.say(f"panel {number + 1} of {count}: {'made' if new else 'was there'}"),
    )  # fmt: skip
    metadata = _metadata(options, film)
    path = write_clip(frames, options.output, fps=timing.fps, metadata=metadata, quality=options.quality)
    if options.sheet:
        page = draw_contact_sheet(timing, [shown[number] for number in range(count)], Path(options.board).name)
        save_page(to_picture(page), options.sheet)
    if options.timing:
        write_text(options.timing, timing.to_csv())
    print(timing.text())
    print(path, flush=True)


def _metadata(options: argparse.Namespace, film: Film) -> dict[str, Any]:
    """What makes the film again: what holds for all of it, and what every panel says."""
    told: dict[str, Any] = {"storyboard": Path(options.board).name, "model": Path(options.model).name}
    told["version"] = __version__
    # Bucket and seed are said panel by panel.
    shared = (name for name in SETTINGS if name not in ("motion_bucket", "seed"))
    told |= {name: getattr(film.settings[0], name) for name in shared}
    told |= {"film_fps": float(film.timing.fps), "longer": options.longer, **lora_metadata(options)}
    told["panels"] = [{**asdict(shot.panel), "image": Path(shot.panel.image).name} for shot in film.timing.shots]
    return told


def _check_files(options: argparse.Namespace, board: Board, panels: Path) -> None:
    """Find what cannot be written, or would be written over something that is read, before minutes of sampling."""
    if options.sheet and Path(options.sheet).suffix.lower() not in PAGE_KINDS:
        raise ValueError(f"--sheet {options.sheet} is no picture; use {', '.join(PAGE_KINDS)}")
    check_output(options.output, quality=options.quality)
    inputs = {panel.row: board.picture_path(panel) for panel in reversed(board.panels)}
    inputs |= {"the storyboard": options.board, **model_files(options)}
    outputs = {"--output": options.output, "--panels": panels, "--sheet": options.sheet, "--timing": options.timing}
    if panels.exists() and not panels.is_dir():
        raise ValueError(f"--panels {panels} is a file; give a folder")
    if panels.resolve() == Path(options.output).resolve():
        raise ValueError(f"--panels {panels} would be written over --output; choose another folder")
    # Folders of kept clips and of a film's frames may be there already, and are written to again.
    if panels.is_dir():
        check_writable(panels / "clip")
        del outputs["--panels"]
    if Path(options.output).is_dir():
        del outputs["--output"]
    check_outputs(outputs, inputs)


def _model_name(options: argparse.Namespace) -> str:
    """Names the model in the keys of finished clips: another file, an edited one or another precision makes others."""
    told = [str(options.model), str(options.complete_from), str(options.dtype), options.device]
    for file in filter(None, (NANO if options.model == "nano" else options.model, options.complete_from)):
        if Path(file).exists():
            found = Path(file).stat()
            told += [str(found.st_size), str(found.st_mtime_ns)]
    for file, *strengths in map(split_lora_option, options.lora):
        told += [hashlib.sha256(Path(file).read_bytes()).hexdigest(), *map(str, strengths)]
    return "|".join(told)
