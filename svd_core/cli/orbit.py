"""`svd-reel orbit PICTURE --output CLIP`: a turntable of an object, with SV3D."""

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..files import printable, write_text
from ..pictures import open_picture
from ..pipelines.orbit import OrbitSettings, object_picture, orbit
from ..sampling.solvers import SOLVERS
from ..version import __version__
from ..video import write_clip
from ..video.target import FILE_KINDS
from .models import load_named_model
from .options import add_machine_options, lora_metadata
from .outputs import check_clip, check_outputs
from .progress import Progress, since

PLAYBACK_FPS = 7.0


def add_orbit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `orbit`; they are named like the fields of OrbitSettings."""
    parser.description = "Make a turntable of the object in a picture, with SV3D_u or SV3D_p."
    parser.set_defaults(run=run_orbit, complete_from=None, lora=[])
    parser.add_argument("image", metavar="PICTURE", help="picture of one object: transparent, or on a white ground")
    parser.add_argument(
        "--model", required=True, metavar="FILE|FOLDER", help="sv3d_u.safetensors, sv3d_p.safetensors, or a folder"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="CLIP",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if there is no suffix",
    )
    _add_picture_options(parser.add_argument_group("picture"))
    _add_path_options(parser.add_argument_group("path of the camera"))
    _add_sampling_options(parser.add_argument_group("sampling"))
    _add_output_options(parser.add_argument_group("machine and output"))


def _add_picture_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--object-mask",
        metavar="FILE",
        help="picture that is white on the object (default: the alpha channel, or what is not white)",
    )
    group.add_argument(
        "--object-ratio",
        type=_ratio,
        metavar="SHARE|none",
        help="size of the object's longer side in the frame, 0.7 to 0.95; none keeps the picture's scale "
        "(default: 0.85)",
    )
    group.add_argument(
        "--prepared", action="store_true", default=None, help="use the picture as it is: a centred object on white"
    )
    group.add_argument(
        "--no-keep-picture",
        dest="keep_picture",
        action="store_false",
        default=None,
        help="keep the model's own last frame; by default the prepared picture takes its place",
    )


def _add_path_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--elevation",
        type=float,
        metavar="DEGREES",
        help="elevation from which the picture was taken, -90 to 90; only for sv3d_p (default: 10)",
    )
    group.add_argument(
        "--elevation-start",
        type=float,
        metavar="DEGREES",
        help="elevation of the first frame, which then changes evenly to --elevation (default: the same)",
    )
    group.add_argument("--elevations", type=_angles, metavar="LIST", help="elevation of every frame, in degrees")
    group.add_argument(
        "--azimuths", type=_angles, metavar="LIST", help="azimuth of every frame, 0 to 360 degrees, ascending"
    )
    group.add_argument("--reverse", action="store_true", default=None, help="turn in the other direction")


def _add_sampling_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--size", type=int, metavar="PIXELS", help="side of the frames (default: the model's own, 576)")
    group.add_argument("--frames", type=int, help="number of frames (default: the model's own, 21)")
    group.add_argument("--steps", type=int, help="sampling steps, 20 to 50; 20 for a draft (default: 50)")
    group.add_argument(
        "--min-guidance", type=float, metavar="SCALE", help="guidance of the first and last frame, 1 to 2 (default: 1)"
    )
    group.add_argument(
        "--max-guidance",
        type=float,
        metavar="SCALE",
        help="guidance of the back view, 1.5 to 4; lower it if colours are too strong (default: 2.5)",
    )
    group.add_argument(
        "--augmentation", type=float, metavar="SIGMA", help="noise on the start picture, 0 to 0.02 (default: 0.00001)"
    )
    group.add_argument("--solver", choices=list(SOLVERS), help="solver of the sampling (default: euler)")
    group.add_argument("--seed", type=int, help="seed of the noise (default: 23)")


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--decode", metavar="exact|N", help="decode exactly, or N frames at a time, which is faster (default: exact)"
    )
    group.add_argument("--mask", metavar="CLIP", help="also write the object's mask, as a clip or a folder of frames")
    group.add_argument("--angles", metavar="FILE.csv", help="write elevation and azimuth of every frame to this file")
    group.add_argument(
        "--playback-fps",
        type=float,
        default=PLAYBACK_FPS,
        metavar="FPS",
        help="frames per second of the file (default: 7)",
    )
    group.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: 90)"
    )
    add_machine_options(group)


def run_orbit(options: argparse.Namespace) -> None:
    """Make an orbit; bad input is found before the model is loaded."""
    start = time.monotonic()
    names = {field.name for field in fields(OrbitSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if given.get("object_ratio") == 0:
        given["object_ratio"] = None
    settings = OrbitSettings(**given).resolve(inspect_checkpoint(options.model).config)
    for clip in filter(None, (options.output, options.mask)):
        check_clip(clip, fps=options.playback_fps, quality=options.quality)
    check_outputs({"--angles": options.angles}, {"PICTURE": options.image, "--object-mask": options.object_mask})
    picture = open_picture(options.image)[0]
    mask = None if options.object_mask is None else open_picture(options.object_mask)[0, ..., :3].mean(-1)
    object_picture(picture, settings, mask)
    with Progress(options.quiet) as progress:
        model = load_named_model(options, progress)
        progress.say(f"{options.image}: {settings.frames} views of {settings.size}x{settings.size}")
        made = orbit(model, picture, settings, mask=mask, on_step=progress.on_step, on_decode=progress.on_decode)
        metadata = {"image": Path(options.image).name, "model": Path(options.model).name, "variant": model.variant}
        metadata |= {"version": __version__, **asdict(settings), **lora_metadata(options)}
        clip = {"fps": options.playback_fps, "quality": options.quality, "metadata": metadata}
        print(write_clip(made.frames, options.output, **clip), flush=True)
        if options.mask:
            print(write_clip(made.mask[..., None].repeat(1, 1, 1, 3), options.mask, **clip), flush=True)
        if options.angles:
            write_text(options.angles, made.path.table(reverse=settings.reverse))
            print(options.angles, flush=True)
        progress.say(f"{len(made.frames)} views, {since(start)}")


def _angles(text: str) -> tuple[float, ...]:
    """Return numbers separated by commas or spaces, or raise argparse's error."""
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"degrees must be numbers (got {printable(text)!r}); write 0,20,40, for example"
        ) from None


def _ratio(text: str) -> float:
    """Return the ratio, 0 for none, or raise argparse's error."""
    if text.lower() == "none":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"the ratio must be above 0 and at most 1 (got {printable(text)!r}); use 0.85, or none"
        )
    return value
