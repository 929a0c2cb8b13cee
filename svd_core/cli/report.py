"""`svd-reel report CLIP`: measure a clip; print the numbers, write them as JSON and as a page of curves."""

import argparse
import logging
from pathlib import Path

from torch import Tensor

from ..checkpoints import load_model
from ..controls.camera.moves import parse_path
from ..files import write_text
from ..flow.planes import luminance
from ..model.model import SVDModel
from ..pictures import composite, open_picture
from ..pictures.sheets import to_picture
from ..report.measuring import check_clip, check_seams, measure
from ..report.page import plot
from ..video import Clip, open_clip
from ..video.picture_clips import frames_in
from .options import model_files
from .outputs import check_outputs, check_page, save_page

log = logging.getLogger("svd_reel")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.description = (
        "Measure a clip: motion, flicker, drift, similarity to its start picture, and jumps at the loop and at seams."
    )
    parser.set_defaults(run=run_report)
    parser.add_argument("clip", metavar="CLIP", help="clip file, or folder of PNG frames")
    parser.add_argument("--image", metavar="IMAGE", help="compare the first frame with this start picture")
    parser.add_argument(
        "--mask", metavar="IMAGE", help="measure motion inside and outside the white area of this picture"
    )
    parser.add_argument(
        "--model",
        metavar="nano|FILE|FOLDER",
        help="measure how similar the frames stay, with the image encoder of this checkpoint (default: not measured)",
    )
    parser.add_argument(
        "--seams",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="measure the jump before each of these frames, counted from 0; use it for clips joined from parts",
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--page", metavar="FILE.png", help="draw all curves on one page: .png, .jpg or .webp")


def run_report(options: argparse.Namespace) -> None:
    """Print the report and write the files asked for; bad input is found before measuring."""
    if options.page:
        check_page("--page", options.page)
    inputs = {"CLIP": options.clip, "--image": options.image, "--mask": options.mask, **model_files(options)}
    if Path(options.clip).is_dir():
        inputs |= {f"CLIP {options.clip}, {file.name}": file for file in frames_in(Path(options.clip))}
    check_outputs({"--json": options.json, "--page": options.page}, inputs)
    clip = open_clip(options.clip)
    check_clip(clip)
    check_seams(options.seams, len(clip))
    image = open_picture(options.image) if options.image else None
    mask = luminance(composite(open_picture(options.mask), "black")) if options.mask else None
    model = open_encoder(options.model) if options.model else None
    report = measure(clip, image=image, mask=mask, model=model, seams=options.seams, asked=asked_track(clip))
    print(report.text(), flush=True)
    if options.json:
        write_text(options.json, report.to_json() + "\n")
    if options.page:
        save_page(to_picture(plot(report)), options.page)


def asked_track(clip: Clip) -> Tensor | None:
    """Return the camera track [K, 4] that the settings of a clip ask for; None without a path.

    The settings come out of a file, so a path that cannot be read is left out, with a warning.
    """
    settings = clip.metadata
    path, frames = settings.get("camera"), settings.get("frames")
    if not path or settings.get("camera_strength") == 0:
        return None
    height, width = clip.height, clip.width
    known = frames if isinstance(frames, int) and 1 <= frames <= len(clip) else len(clip)
    try:
        return parse_path(str(path)).poses(known).views(width, height)
    except ValueError as error:
        log.warning("the camera path in the settings of the clip cannot be read (%s); it is not compared", error)
        return None


def open_encoder(path: str) -> SVDModel:
    """Load a checkpoint for its image encoder; the other parts stay on disk as they are stored."""
    model = load_model(path, dtype=None)
    model.part("image_encoder").float()
    return model
