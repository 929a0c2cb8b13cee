"""`svd-reel edit CLIP --image EDITED --output CLIP`: change a clip, and carry an edit of its first frame through it."""

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..pictures import open_picture, size_like
from ..pipelines.settings import AnimateSettings
from ..pipelines.steered import Steering, check_steering, steered_clip
from ..version import __version__
from ..video import read_clip, write_clip
from ..video.target import FILE_KINDS
from .models import load_planned_model
from .options import add_machine_options, add_model_options, add_settings, add_speed_options, lora_metadata
from .outputs import check_clip
from .progress import Progress, since
from .steering import add_source_clip, option_of


def add_edit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `edit`, named like the fields of AnimateSettings."""
    parser.description = "Change a clip with the usual weights, and carry an edit of its first frame through it."
    parser.set_defaults(run=run_edit)
    parser.add_argument("clip", metavar="CLIP", help="video, animation or folder of frames to change")
    add_model_options(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="CLIP",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if there is no suffix",
    )
    clip = parser.add_argument_group("clip")
    clip.add_argument(
        "--image",
        metavar="EDITED",
        help="the first frame of the clip, edited; what was edited is carried along the motion (default: that frame as "
        "it is)",
    )
    add_source_clip(clip, command="edit")
    add_settings(clip, "width", "height", "frames", "fit", "background")
    motion = parser.add_argument_group("motion and picture")
    add_settings(motion, "motion_bucket", "fps", "augmentation", "soften_above")
    sampling = parser.add_argument_group("sampling")
    add_settings(sampling, "steps", "min_guidance", "max_guidance", "guidance_shape", "schedule", "sigma_min")
    add_settings(sampling, "sigma_max", "solver", "seed", "skip_guidance", "windows", "window_overlap")
    output = parser.add_argument_group("machine and output")
    add_settings(output, "decode")
    output.add_argument(
        "--playback-fps", type=float, metavar="FPS", help="frames per second of the file (default: as --fps)"
    )
    output.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: 90)"
    )
    add_machine_options(output)
    add_speed_options(output)


def run_edit(options: argparse.Namespace) -> None:
    """Change a clip; bad input is found before the model is loaded."""
    start = time.monotonic()
    config = inspect_checkpoint(options.model).config
    names = {field.name for field in fields(AnimateSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    frames, _, _ = read_clip(options.clip)
    image = frames[:1] if options.image is None else open_picture(options.image)
    if not given.keys() & {"width", "height"}:
        multiple = 64 if min(config.width, config.height) >= 512 else 8
        height, width = frames.shape[1:3]
        given["width"], given["height"] = size_like(width, height, config.width * config.height, multiple)
    settings = AnimateSettings(**given).resolve(config, steered=options.denoise != 1)
    steering = Steering(source_clip=frames, denoise=options.denoise, source_mode=options.source_mode)
    check_steering(steering, settings, name_of=option_of)
    fps = options.playback_fps or settings.fps
    check_clip(options.output, fps=fps, quality=options.quality)
    with Progress(options.quiet) as progress:
        model = load_planned_model(options, settings, config, progress)
        progress.say(f"{options.clip}: {settings.frames} frames of {settings.width}x{settings.height}")
        report = {"on_step": progress.on_step, "on_decode": progress.on_decode}
        made = steered_clip(model, image, settings, steering, **report)
        metadata = {"source_clip": Path(options.clip).name, "model": Path(options.model).name, "variant": model.variant}
        metadata |= {"version": __version__, **asdict(settings), **lora_metadata(options)}
        chosen = {"image": options.image and Path(options.image).name, "denoise": options.denoise}
        chosen["source_mode"] = options.source_mode
        metadata |= {name: value for name, value in chosen.items() if value is not None}
        print(write_clip(made, options.output, fps=fps, quality=options.quality, metadata=metadata), flush=True)
        progress.say(f"{len(made) / fps:.2f} s of clip, {since(start)}")
