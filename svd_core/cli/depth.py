"""`svd-reel depth CLIP --output MAPS`: steady depth or normals of a video, with DepthCrafter or NormalCrafter."""

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..checkpoints.licence import licence_text
from ..pictures import open_picture
from ..pipelines.video_depth import VIDEO_READERS, VideoDepthSettings, video_depth
from ..version import __version__
from ..video import read_clip, write_clip
from ..video.target import FILE_KINDS
from .models import load_named_model
from .options import add_machine_options
from .outputs import check_clip
from .progress import Progress, since

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def add_depth(parser: argparse.ArgumentParser) -> None:
    """Add the options of `depth`; they are named like the fields of VideoDepthSettings."""
    parser.description = (
        "Read steady depth (DepthCrafter: research and education only) or normals (NormalCrafter) from a video. Near "
        "is bright."
    )
    parser.set_defaults(run=run_depth, lora=[])
    parser.add_argument("clip", metavar="CLIP", help="video, animation, folder of pictures, or one picture")
    parser.add_argument("--model", required=True, metavar="FILE|FOLDER", help="DepthCrafter's or NormalCrafter's UNet")
    parser.add_argument(
        "--complete-from", metavar="FILE", help="full svd_xt checkpoint that supplies VAE and image encoder"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="MAPS",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if there is no suffix",
    )
    group = parser.add_argument_group("reading")
    group.add_argument("--kind", choices=VIDEO_READERS, help="what the model reads (default: by the name of its file)")
    group.add_argument(
        "--window", type=int, metavar="N", help="frames read at once, 25 to 110; less needs less memory "
        "(default: 110 for depth, 14 for normals)"
    )  # fmt: skip
    group.add_argument(
        "--overlap", type=int, metavar="N", help="frames that windows share (default: 25 for depth, 4 for normals)"
    )
    group.add_argument("--steps", type=int, help="sampling steps of depth, 5 to 10 (default: 5)")
    group.add_argument("--guidance", type=float, metavar="SCALE", help="guidance of depth, 1 to 1.2 (default: 1)")
    group.add_argument(
        "--longest-side", type=int, metavar="PIXELS", help="scale larger videos down to this side (default: 1024)"
    )
    group.add_argument("--seed", type=int, help="seed of the noise (default: 42)")
    group.add_argument("--decode", metavar="exact|N", help="decode exactly, or N frames at a time (default: 8)")
    output = parser.add_argument_group("machine and output")
    output.add_argument(
        "--playback-fps", type=float, metavar="FPS", help="frames per second of the file (default: the clip's own)"
    )
    output.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: 90)"
    )
    add_machine_options(output)


def run_depth(options: argparse.Namespace) -> None:
    """Read depth or normals; bad input is found before the model is loaded."""
    start = time.monotonic()
    names = {field.name for field in fields(VideoDepthSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    settings = VideoDepthSettings(**given).resolve(inspect_checkpoint(options.model).config)
    if Path(options.clip).suffix.lower() in PICTURES:
        frames, rate = open_picture(options.clip)[..., :3], 0.0
    else:
        frames, rate, _ = read_clip(options.clip)
    fps = options.playback_fps or rate or 7.0
    check_clip(options.output, fps=fps, quality=options.quality)
    with Progress(options.quiet) as progress:
        progress.say(licence_text(settings.kind))
        model = load_named_model(options, progress)
        progress.say(f"{options.clip}: {len(frames)} frames in windows of {settings.window}")
        maps = video_depth(model, frames, settings, on_step=progress.on_step, on_decode=progress.on_decode)
        metadata = {"clip": Path(options.clip).name, "model": Path(options.model).name, "version": __version__}
        metadata |= asdict(settings)
        print(write_clip(maps, options.output, fps=fps, quality=options.quality, metadata=metadata), flush=True)
        progress.say(f"{len(maps)} maps, {since(start)}")
