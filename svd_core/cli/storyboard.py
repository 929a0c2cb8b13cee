"""`svd-reel storyboard FILE`: a film of several pictures, with a contact sheet and a timing table."""

import argparse
import hashlib
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
from ..pipelines.steered import steering_metadata
from ..storyboard.clips import LONGER, ClipStore, shot_key
from ..storyboard.film import FADE, Film, draw_contact_sheet, film_frames, plan_film, sheet_frame, sheet_picture
from ..storyboard.panels import Board, Panel, read_board
from ..version import __version__
from ..video import check_output, write_clip
from .models import load_named_model
from .options import add_machine_options, add_model_options, add_settings, lora_metadata, model_files
from .outputs import check_outputs, check_page, save_page
from .progress import Progress

SETTINGS = ("width", "height", "steps", "augmentation", "fit", "background", "motion_bucket", "seed", "fps")
SETTINGS += ("camera_strength", "camera_mode")


def add_storyboard(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `storyboard`."""
    parser.description = (
        "Make a clip of every panel and join them to one film. Finished clips are kept: the same command continues "
        "after an interruption and remakes only panels that changed."
    )
    parser.set_defaults(run=run_storyboard)
    parser.add_argument(
        "board",
        metavar="FILE|FOLDER",
        help=".csv or .json with the columns image, seconds, move, strength, mode, bucket, seed, transition, fade, "
        "title, and any setting of animate; or a folder of pictures",
    )
    add_model_options(parser)
    parser.add_argument("--output", required=True, metavar="FILM", help="film to write: .mp4, .webm, .webp, .gif")
    parser.add_argument("--sheet", metavar="SHEET.png", help="write a contact sheet: .png, .jpg or .webp")
    parser.add_argument("--timing", metavar="FILE.csv", help="write the timing table to this file")
    parser.add_argument(
        "--panels", metavar="FOLDER", help="keep finished clips in this folder (default: FILM.panels beside the film)"
    )
    _add_panel_options(parser.add_argument_group("panels, where the storyboard leaves a cell empty"))
    _add_film_options(parser.add_argument_group("film"))
    add_machine_options(parser.add_argument_group("machine"))


def _add_panel_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seconds", type=float, help="duration of a panel (default: that of the model's own clip)")
    group.add_argument("--move", metavar="PATH", help='camera path in words, such as "zoom in 1.1"')
    add_settings(group, "camera_strength", "camera_mode", "motion_bucket")
    group.add_argument("--seed", type=int, help="seed of the noise (default: 23)")
    group.add_argument("--transition", choices=("cut", "cross-fade"), help="how a panel begins (default: cut)")
    group.add_argument("--fade", type=float, metavar="SECONDS", help=f"duration of a cross-fade (default: {FADE})")


def _add_film_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fps", type=float, help="frames per second the motion is meant for, 6 to 30 (default: 7)")
    group.add_argument(
        "--film-fps", type=float, metavar="FPS", help="frames per second of the film (default: as --fps)"
    )
    group.add_argument(
        "--longer",
        choices=LONGER,
        default="windows",
        help="how panels longer than the model's clip are made: sampled in overlapping windows, extended from their "
        "end, or played slower (default: windows)",
    )
    for name in ("--width", "--height", "--steps"):
        group.add_argument(name, type=int, help="default: the model's own")
    group.add_argument(
        "--augmentation", type=float, metavar="SIGMA", help="noise on the start pictures, 0 to 0.1 (default: 0.02)"
    )
    group.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        help="how a picture fills another aspect; pad leaves black borders (default: crop)",
    )
    group.add_argument("--background", metavar="COLOUR", help="colour behind transparent pixels (default: white)")
    group.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: %(default)s)"
    )


def run_storyboard(options: argparse.Namespace) -> None:
    """Make the film; bad input is found before the model is loaded."""
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
    read_lora_options(options.lora)  # raises for a bad file even where every clip is finished
    name = _model_name(options)
    shots = list(zip(timing.shots, film.settings, strict=True))
    keys = [shot_key(picture(number), *shot, name) for number, shot in enumerate(shots)]
    missing = count - sum(store.finished(key) for key in keys)
    shown: dict[int, Tensor] = {}

    def on_frame(panel: int, index: int, frame: Tensor) -> None:
        if index == sheet_frame(timing.shots[panel].frames):
            shown[panel] = sheet_picture(frame)

    with Progress(options.quiet) as progress:

        def on_clip(number: int, new: bool) -> None:
            progress.say(f"panel {number + 1} of {count}: {'made' if new else 'already finished'}")

        model = load_named_model(options, progress) if missing else None
        progress.say(f"{count} panels, {missing} to make, {timing.frames} frames")
        store.write_manifest([{**row, "clip": key} for row, key in zip(timing.rows(), keys, strict=True)])
        report = {"on_step": progress.on_step, "on_frame": on_frame, "on_clip": on_clip}
        frames = film_frames(model, picture, film, store=store, model_name=name, **report)
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
    """Return what is needed to make the film again: the settings of the film, and those of every panel."""
    metadata: dict[str, Any] = {"storyboard": Path(options.board).name, "model": Path(options.model).name}
    metadata["version"] = __version__
    # The motion bucket, the seed and the camera belong to the panels.
    own = ("motion_bucket", "seed", "camera_strength", "camera_mode")
    shared = (name for name in SETTINGS if name not in own)
    metadata |= {name: getattr(film.settings[0], name) for name in shared}
    metadata |= {"film_fps": float(film.timing.fps), "longer": options.longer, **lora_metadata(options)}
    metadata["panels"] = [_panel(shot.panel) for shot in film.timing.shots]
    return metadata


def _panel(panel: Panel) -> dict[str, Any]:
    """Return what the film keeps of a panel, with files by their names."""
    own = {name: value for name, value in vars(panel).items() if name != "given"}
    return {**own, "image": Path(panel.image).name, **panel.settings, **steering_metadata(panel.steering)}


def _check_files(options: argparse.Namespace, board: Board, panels: Path) -> None:
    """Check what will be written, before minutes of sampling."""
    if options.sheet:
        check_page("--sheet", options.sheet)
    check_output(options.output, quality=options.quality)
    inputs = {panel.row: board.picture_path(panel) for panel in reversed(board.panels)}
    inputs |= {"the storyboard": options.board, **model_files(options)}
    outputs = {"--output": options.output, "--panels": panels, "--sheet": options.sheet, "--timing": options.timing}
    if panels.exists() and not panels.is_dir():
        raise ValueError(f"--panels {panels} is a file; give a folder")
    if panels.resolve() == Path(options.output).resolve():
        raise ValueError(f"--panels {panels} would overwrite --output; choose another folder")
    # The folder of finished clips, and a folder of frames as the film, may exist already.
    if panels.is_dir():
        check_writable(panels / "clip")
        del outputs["--panels"]
    if Path(options.output).is_dir():
        del outputs["--output"]
    check_outputs(outputs, inputs)


def _model_name(options: argparse.Namespace) -> str:
    """Return the text that identifies the model in the keys of clips; it changes with the file and the precision."""
    parts = [str(options.model), str(options.complete_from), str(options.dtype), options.device]
    for file in filter(None, (NANO if options.model == "nano" else options.model, options.complete_from)):
        if Path(file).exists():
            found = Path(file).stat()
            parts += [str(found.st_size), str(found.st_mtime_ns)]
    for file, *strengths in map(split_lora_option, options.lora):
        parts += [hashlib.sha256(Path(file).read_bytes()).hexdigest(), *map(str, strengths)]
    return "|".join(parts)
