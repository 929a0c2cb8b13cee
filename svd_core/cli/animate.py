"""`svd-reel animate IMAGE --output CLIP`: make a clip of every picture."""

import argparse
import time
from dataclasses import fields, replace
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..checkpoints.networks_by_name import adapter_names, check_networks, load_networks
from ..networks.config import SVDConfig
from ..pictures import composite, open_picture, size_like
from ..pipelines.control_settings import NEEDS
from ..pipelines.settings import SETTINGS, AnimateSettings, settings_metadata
from ..pipelines.steered import (
    NETWORKS,
    check_steering,
    gives_motion,
    open_steering,
    steered_clip,
    steering_metadata,
)
from ..version import __version__
from ..video import write_clip
from ..video.target import FILE_KINDS
from .models import load_planned_model
from .networks import add_camera_weights, add_controlnet
from .options import add_machine_options, add_model_options, add_settings, add_speed_options, lora_metadata
from .outputs import check_clip
from .progress import Progress, since
from .steering import add_between, add_brush, add_driving_clip, add_source_clip, option_of, steering_of

NEEDED_BY = (
    *((main, f"--{main.replace('_', '-')} {SETTINGS[main].metavar}", others) for others, (main,) in NEEDS),
    ("reuse", "--reuse 2", ("reuse_depth", "reuse_sigma_low", "reuse_sigma_high")),
)
"""An option, how it is given, and the options that have no effect without it."""


def add_animate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `animate`, named like the fields of AnimateSettings."""
    parser.description = "Make a clip of a picture."
    parser.set_defaults(run=run_animate)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture to start from; for several, put {name} into --output"
    )
    add_model_options(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="CLIP",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if there is no suffix. {{name}} is "
        "replaced by the picture's name",
    )
    clip = parser.add_argument_group("clip")
    add_settings(clip, "width", "height")
    clip.add_argument(
        "--keep-aspect",
        action="store_true",
        help="take the aspect of the picture, with the model's number of pixels, instead of cropping",
    )
    add_settings(clip, "frames", "fit", "background")
    motion = parser.add_argument_group("motion and picture")
    add_settings(motion, "motion_bucket", "fps", "augmentation", "soften_above", "start_sigma", "blur")
    add_settings(motion, "bucket_curve", "fps_curve", "compare_bucket", "compare_with")
    steady = parser.add_argument_group("steadiness")
    add_settings(steady, "rescale", "keep_parallel", "guidance_limit", "momentum", "first_frame", "first_frame_sigma")
    add_settings(steady, "colour_anchor", "anchor_sigma", "anchor_regions")
    add_settings(steady, "match_colours", "match_method", "match_ramp", "match_smoothing")
    sampling = parser.add_argument_group("sampling")
    add_settings(sampling, "steps", "min_guidance", "max_guidance", "guidance_shape", "schedule")
    add_settings(sampling, "sigma_min", "sigma_max", "solver", "seed", "skip_guidance")
    add_settings(sampling, "churn", "sigmas", "guidance_points", "guidance_sigma_high", "guidance_sigma_low")
    add_settings(sampling, "reuse", "reuse_depth", "reuse_sigma_low", "reuse_sigma_high")
    _add_camera_options(parser.add_argument_group("camera"))
    add_brush(parser.add_argument_group("motion mask, cut and drag"))
    add_driving_clip(parser.add_argument_group("control by a clip"))
    add_source_clip(parser.add_argument_group("a clip to change"))
    add_between(parser.add_argument_group("end pictures and loops"))
    add_controlnet(parser.add_argument_group("ControlNet"))
    longer = parser.add_argument_group("longer clips")
    add_settings(longer, "windows", "window_overlap", "window_rolling", "window_noise", "window_ends")
    add_settings(longer, "window_weights", "window_borders")
    add_settings(longer, "extend", "extend_overlap", "extend_anchor", "extend_colour_lock", "extend_detail")
    add_settings(longer, "extend_repeats", "extend_chunk_frames")
    _add_output_options(parser.add_argument_group("machine and output"))


def _add_camera_options(group: argparse._ArgumentGroup) -> None:
    add_settings(group, "camera", "camera_mode", "camera_strength", "camera_sigma", "camera_far_to_near")
    add_settings(group, "camera_repeats", "camera_keep", "camera_last_weight", "camera_refine")
    group.add_argument("--depth", metavar="FILE", help="depth map, bright is near; use it for a camera that travels")
    group.add_argument("--foreground", metavar="FILE", help="mask of the object in front, bright on dark")
    add_camera_weights(group)


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    add_settings(group, "decode")
    group.add_argument(
        "--playback-fps", type=float, metavar="FPS", help="frames per second of the file (default: as --fps)"
    )
    group.add_argument(
        "--quality",
        type=int,
        default=90,
        metavar="0..100",
        help="quality of mp4, webm and webp; higher is better and larger (default: 90)",
    )
    add_machine_options(group)
    add_speed_options(group)


def run_animate(options: argparse.Namespace) -> None:
    """Animate every picture; bad input is found before the model is loaded."""
    _check_dependent_options(options)
    outputs = _outputs(options)
    # The header gives the configuration at once; loading the model takes a while.
    config = inspect_checkpoint(options.model).config
    jobs = [
        (image, _settings(options, image, config), output)
        for image, output in zip(options.images, outputs, strict=True)
    ]
    given = steering_of(options)
    check_networks(given)
    steering = open_steering(given)
    for _, settings, _ in jobs:
        check_steering(steering, settings, name_of=option_of)
    with Progress(options.quiet) as progress:
        model = load_planned_model(options, jobs[0][1], config, progress, adapter_names(given))
        steering = replace(steering, **load_networks({name: given[name] for name in NETWORKS if name in given}, model))
        for image, settings, output in jobs:
            start = time.monotonic()
            progress.say(f"{image}: {settings.frames} frames of {settings.width}x{settings.height}")
            report = {"on_step": progress.on_step, "on_decode": progress.on_decode}
            frames = steered_clip(model, open_picture(image), settings, steering, **report)
            fps = _playback_fps(options)
            metadata = _metadata(options, image, settings, model.variant) | steering_metadata(given)
            path = write_clip(frames, output, fps=fps, metadata=metadata, quality=options.quality)
            progress.say(f"{len(frames) / fps:.2f} s of clip, {since(start)}")
            print(path, flush=True)


def _check_dependent_options(options: argparse.Namespace) -> None:
    """Raise ValueError for an option that has no effect without another one."""
    if options.camera_strength is not None and not (options.camera or options.camera_weights):
        raise ValueError("--camera-strength has no effect without --camera PATH; add that, or leave it out")
    for main, words, others in NEEDED_BY:
        for name in (name for name in others if not vars(options)[main] and vars(options)[name] is not None):
            raise ValueError(f"--{name.replace('_', '-')} has no effect without {words}; add that, or leave it out")


def _metadata(options: argparse.Namespace, image: str, settings: AnimateSettings, variant: str) -> dict[str, object]:
    """Return what the clip keeps: the settings, the files by name, and the precision."""
    notes = {"complete_from": options.complete_from and Path(options.complete_from).name, "dtype": options.dtype}
    metadata = {"image": Path(image).name, "model": Path(options.model).name, "variant": variant}
    metadata |= {"version": __version__, **settings_metadata(settings)}
    metadata |= {name: value for name, value in notes.items() if value is not None}
    return metadata | lora_metadata(options)


def _settings(options: argparse.Namespace, image: str, config: SVDConfig) -> AnimateSettings:
    """Return the resolved settings for one picture, which is opened once to check it."""
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
    settings = AnimateSettings(**given).resolve(config, steered=gives_motion(steering_of(options)))
    composite(picture, settings.background)
    return settings


def _outputs(options: argparse.Namespace) -> list[str]:
    """Return one checked output path per picture."""
    paths = [options.output.replace("{name}", Path(image).stem) for image in options.images]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"{len(paths)} pictures would be written to the same clip ({paths[0]}); put {{name}} into --output, and "
            "rename pictures of the same name"
        )
    for path in paths:
        check_clip(path, fps=_playback_fps(options), quality=options.quality)
    return paths


def _playback_fps(options: argparse.Namespace) -> float:
    rates = (options.playback_fps, options.fps, AnimateSettings.fps)
    return next(rate for rate in rates if rate is not None)
