"""`python -m svd_core report CLIP`: the report of a clip file, printed and written."""

import argparse
import logging
from pathlib import Path
from typing import Any

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
from ..video import read_clip
from ..video.target import frame_files
from .options import model_files
from .outputs import PAGE_KINDS, check_outputs, save_page

log = logging.getLogger("svd_reel")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.description = "Measure a clip: motion, flicker, drift, likeness to its start image, loop and seams."
    parser.set_defaults(run=run_report)
    parser.add_argument("clip", metavar="CLIP", help="clip file, or folder of PNG frames")
    parser.add_argument("--image", metavar="IMAGE", help="start image, to compare the first frame with")
    parser.add_argument("--mask", metavar="IMAGE", help="picture that is white where motion is told apart")
    parser.add_argument(
        "--model", metavar="nano|FILE|FOLDER", help="checkpoint whose image encoder tells how alike the frames stay"
    )
    parser.add_argument(
        "--seams", type=int, nargs="+", default=[], metavar="N", help="frames that begin a new part, counted from 0"
    )
    parser.add_argument("--json", metavar="FILE", help="write every number to this file")
    parser.add_argument("--page", metavar="FILE.png", help="write a page of curves to this picture")


def run_report(options: argparse.Namespace) -> None:
    """Print the report, and write what was asked for; whatever can be found wrong is found before measuring."""
    if options.page and Path(options.page).suffix.lower() not in PAGE_KINDS:
        raise ValueError(f"--page {options.page} is no picture; use {', '.join(PAGE_KINDS)}")
    inputs = {"CLIP": options.clip, "--image": options.image, "--mask": options.mask, **model_files(options)}
    if Path(options.clip).is_dir():
        inputs |= {f"CLIP {options.clip}, {file.name}": file for file in frame_files(Path(options.clip))}
    check_outputs({"--json": options.json, "--page": options.page}, inputs)
    clip, _, settings = read_clip(options.clip)
    check_clip(clip)
    check_seams(options.seams, len(clip))
    image = open_picture(options.image) if options.image else None
    mask = luminance(composite(open_picture(options.mask), "black")) if options.mask else None
    model = open_encoder(options.model) if options.model else None
    report = measure(clip, image=image, mask=mask, model=model, seams=options.seams, asked=asked_track(clip, settings))
    print(report.text(), flush=True)
    if options.json:
        write_text(options.json, report.to_json() + "\n")
    if options.page:
        save_page(to_picture(plot(report)), options.page)


def asked_track(clip: Tensor, settings: dict[str, Any]) -> Tensor | None:
    """Return the camera track [K, 4] that the settings of a clip [T, H, W, 3] ask for; None without a path.

    The settings come out of a file, so a path that cannot be read is left out, with a warning.
    """
    path, frames = settings.get("camera"), settings.get("frames")
    if not path or settings.get("camera_strength") == 0:
        return None
    height, width = clip.shape[1:3]
    known = frames if isinstance(frames, int) and 1 <= frames <= len(clip) else len(clip)
    try:
        return parse_path(str(path)).poses(known).views(width, height)
    except ValueError as error:
        log.warning("the camera path in the settings of the clip cannot be read (%s); it is not compared", error)
        return None


def open_encoder(path: str) -> SVDModel:
    """The model of a checkpoint, only its image encoder in memory: the rest stays on disk as it is stored."""
    model = load_model(path, dtype=None)
    model.part("image_encoder").float()
    return model
