"""`python -m svd_core animate IMAGE --output CLIP`: a clip from every picture."""

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..controls.camera.moves import MOVES
from ..controls.signal import SIGNAL_MODES
from ..networks.config import SVDConfig
from ..pictures import composite, open_picture, size_like
from ..pipelines.clip import AnimateSettings, animate
from ..sampling.guidance import GUIDANCE_SHAPES
from ..sampling.schedules import SCHEDULES
from ..sampling.solvers import SOLVERS
from ..version import __version__
from ..video import check_output, write_clip
from ..video.target import FILE_KINDS
from .models import load_planned_model
from .options import add_machine_options, add_model_options, add_speed_options, lora_metadata
from .progress import Progress, since
from .steering import add_between, add_brush, between_metadata, brush_metadata, clip_between, clip_steered

COMPANY = (
    ("camera", "--camera PATH", ("camera_mode", "camera_strength", "depth", "foreground")),
    ("windows", "--windows N", ("window_overlap",)),
    ("extend", "--extend N", ("extend_overlap",)),
    ("reuse", "--reuse 2", ("reuse_depth", "reuse_sigma_low", "reuse_sigma_high")),
)
"""An option of animate, how it is given, and those that only say more about it."""


def add_animate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `animate`; they are named like the fields of AnimateSettings where they mean one."""
    parser.description = "Make a clip of a picture."
    parser.set_defaults(run=run_animate)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture to start from; several need {name} in --output"
    )
    add_model_options(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="CLIP",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if without suffix; {{name}} stands "
        "for the picture's name",
    )
    _add_clip_options(parser.add_argument_group("clip"))
    _add_motion_options(parser.add_argument_group("motion and picture"))
    _add_sampling_options(parser.add_argument_group("sampling"))
    _add_camera_options(parser.add_argument_group("camera"))
    add_brush(parser.add_argument_group("motion mask, cut and drag"))
    add_between(parser.add_argument_group("end pictures and loops"))
    _add_length_options(parser.add_argument_group("longer clips"))
    _add_output_options(parser.add_argument_group("machine and output"))


def _add_clip_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--width", type=int, metavar="PIXELS", help="multiple of 8 (default: the model's own)")
    group.add_argument("--height", type=int, metavar="PIXELS", help="multiple of 8 (default: the model's own)")
    group.add_argument(
        "--keep-aspect",
        action="store_true",
        help="size in the picture's aspect instead, with the model's number of pixels",
    )
    group.add_argument("--frames", type=int, help="number of frames (default: the model's own, 14 or 25)")
    group.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        help="how the picture meets the size; pad is cropped off again (default: crop)",
    )
    group.add_argument(
        "--background", metavar="COLOUR", help="behind transparent pixels: a name or #rrggbb (default: white)"
    )


def _add_motion_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--motion-bucket", type=float, metavar="N", help="amount of motion, 1 to 255 (default: 127)")
    group.add_argument("--fps", type=float, help="frames per second that the motion is meant for, 6 to 30 (default: 7)")
    group.add_argument(
        "--augmentation",
        type=float,
        metavar="SIGMA",
        help="noise on the picture, 0 to 0.1: more lets the clip leave it (default: 0.02)",
    )


def _add_sampling_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--steps", type=int, help="sampling steps, 10 to 30 (default: the model's own)")
    group.add_argument("--min-guidance", type=float, metavar="SCALE", help="guidance of the first frame, 1 to 3")
    group.add_argument("--max-guidance", type=float, metavar="SCALE", help="guidance of the last frame, 1 to 4")
    group.add_argument(
        "--guidance-shape", choices=tuple(GUIDANCE_SHAPES), help="curve between the two (default: linear)"
    )
    group.add_argument(
        "--schedule", choices=tuple(SCHEDULES), help="noise levels (default: karras; lcm with AnimateLCM)"
    )
    group.add_argument("--sigma-min", type=float, metavar="SIGMA", help="lowest noise level (default: 0.002)")
    group.add_argument("--sigma-max", type=float, metavar="SIGMA", help="highest noise level (default: 700)")
    group.add_argument(
        "--solver", choices=tuple(SOLVERS), help="default: euler, or what schedule and model were made for"
    )
    group.add_argument("--seed", type=int, help="same seed, same clip (default: 23)")
    _add_reuse_options(group)


def _add_reuse_options(group: argparse._ArgumentGroup) -> None:
    """Add the reuse of features across steps, which changes the clip."""
    group.add_argument(
        "--reuse",
        type=int,
        metavar="N",
        help="run the whole UNet at every Nth step only: 2 takes about 0.6 of the time, 3 half of it; details drift "
        "(default: 1, off)",
    )
    group.add_argument(
        "--reuse-depth",
        type=int,
        metavar="N",
        help="outermost pairs of UNet blocks that run in every step: more is closer to the exact clip and slower "
        "(default: 2)",
    )
    group.add_argument(
        "--reuse-sigma-low", type=float, metavar="SIGMA", help="no reuse below this noise level (default: 0)"
    )
    group.add_argument(
        "--reuse-sigma-high", type=float, metavar="SIGMA", help="no reuse above this noise level (default: 700, none)"
    )


def _add_camera_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--camera",
        metavar="PATH",
        help=f'camera path in words, such as "pan right 0.15, zoom in 1.2 then hold 4"; moves: {", ".join(MOVES)}',
    )
    group.add_argument(
        "--camera-mode", choices=tuple(SIGNAL_MODES), help="how the path is imposed (default: partial re-noise)"
    )
    group.add_argument(
        "--camera-strength", type=float, metavar="N", help="0 off, 1 usual, 2 nearly a slide show (default: 1)"
    )
    group.add_argument(
        "--depth", metavar="FILE", help="picture of the depth, near is bright, for a camera that travels"
    )
    group.add_argument("--foreground", metavar="FILE", help="picture of the object in front, bright on dark")


def _add_length_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--windows",
        type=int,
        metavar="N",
        help="for more --frames than the model's own: how many it sees at once, best its own number",
    )
    group.add_argument(
        "--window-overlap", type=int, metavar="N", help="frames that windows share (default: a third of them)"
    )
    group.add_argument("--extend", type=int, metavar="N", help="frames to add behind the clip, going on from its end")
    group.add_argument(
        "--extend-overlap", type=int, metavar="N", help="frames at its end that they are held to (default: 4)"
    )


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--decode", metavar="exact|N", help="exact, or N frames at a time as the official script does (default: exact)"
    )
    group.add_argument(
        "--playback-fps", type=float, metavar="FPS", help="frames per second of the file (default: as --fps)"
    )
    group.add_argument("--quality", type=int, default=90, metavar="0..100", help="of mp4, webm and webp (default: 90)")
    add_machine_options(group)
    add_speed_options(group)


def run_animate(options: argparse.Namespace) -> None:
    """Animate every picture; whatever can be found wrong is found before the model is loaded."""
    progress = Progress(options.quiet)
    _check_company(options)
    outputs = _outputs(options)
    # From the header alone: a full model takes a while to load.
    config = inspect_checkpoint(options.model).config
    jobs = [
        (image, _settings(options, image, config), output)
        for image, output in zip(options.images, outputs, strict=True)
    ]
    maps = {
        name: None if file is None else open_picture(file)
        for name, file in (("depth", options.depth), ("foreground", options.foreground))
    }
    between, steered = clip_between(options), clip_steered(options)
    if between and steered:
        raise ValueError("end pictures and loops take no --motion-mask or --drag; leave one of them out")
    model = load_planned_model(options, jobs[0][1], config, progress)
    for image, settings, output in jobs:
        start = time.monotonic()
        progress.say(f"{image}: {settings.frames} frames of {settings.width}x{settings.height}")
        report = {"on_step": progress.step, "on_decode": progress.decoded}
        given = (model, open_picture(image), settings)
        frames = between(*given, **report) if between else (steered or animate)(*given, **report, **maps)
        metadata = {"image": Path(image).name, "model": Path(options.model).name, "variant": model.variant}
        metadata |= {"version": __version__, **asdict(settings), **between_metadata(options), **brush_metadata(options)}
        metadata |= {name: value for name, value in _files_and_precision(options).items() if value is not None}
        metadata |= lora_metadata(options)
        fps = _playback_fps(options)
        path = write_clip(frames, output, fps=fps, metadata=metadata, quality=options.quality)
        progress.say(f"{len(frames) / fps:.2f} s of clip, {since(start)}")
        print(path, flush=True)


def _check_company(options: argparse.Namespace) -> None:
    """Find options that do nothing without another one."""
    for main, words, others in COMPANY:
        for name in (name for name in others if not vars(options)[main] and vars(options)[name] is not None):
            raise ValueError(f"--{name.replace('_', '-')} does nothing without {words}; add that, or leave it out")


def _files_and_precision(options: argparse.Namespace) -> dict[str, str | None]:
    files = {name: vars(options)[name] for name in ("depth", "foreground", "complete_from")}
    return {name: file and Path(file).name for name, file in files.items()} | {"dtype": options.dtype}


def _settings(options: argparse.Namespace, image: str, config: SVDConfig) -> AnimateSettings:
    """The settings for one picture, complete and checked; the picture is opened to see that it can be."""
    picture = open_picture(image)
    height, width = picture.shape[1:3]
    names = {field.name for field in fields(AnimateSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if options.keep_aspect:
        if given.keys() & {"width", "height"}:
            raise ValueError("--keep-aspect chooses width and height itself; leave out --width and --height")
        # Multiples of 64 as in training, finer for small models.
        multiple = 64 if min(config.width, config.height) >= 512 else 8
        given["width"], given["height"] = size_like(width, height, config.width * config.height, multiple)
    settings = AnimateSettings(**given).resolve(config)
    composite(picture, settings.background)
    return settings


def _outputs(options: argparse.Namespace) -> list[str]:
    """One checked path per picture."""
    paths = [options.output.replace("{name}", Path(image).stem) for image in options.images]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"{len(paths)} pictures would share the clip {paths[0]}; put {{name}} in --output and rename equal ones"
        )
    for path in paths:
        check_output(path, fps=_playback_fps(options), quality=options.quality)
    return paths


def _playback_fps(options: argparse.Namespace) -> float:
    rates = (options.playback_fps, options.fps, AnimateSettings.fps)
    return next(rate for rate in rates if rate is not None)
