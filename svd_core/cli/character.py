"""`svd-reel character PICTURE --poses CLIP --output CLIP`: a person who follows pose drawings."""

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..checkpoints.pose_network import load_pose_network, pose_network_kind
from ..pictures import open_picture
from ..pipelines.character import CharacterSettings, animate_character
from ..pipelines.settings import FIT_MODES
from ..sampling.solvers import SOLVERS
from ..version import __version__
from ..video import read_clip, write_clip
from ..video.target import FILE_KINDS
from .models import load_named_model
from .options import add_lora_option, add_machine_options, lora_metadata
from .outputs import check_clip
from .progress import Progress, since

PLAYBACK_FPS = 15.0  # as the authors of MimicMotion show theirs


def add_character(parser: argparse.ArgumentParser) -> None:
    """Add the options of `character`; they are named like the fields of CharacterSettings."""
    parser.description = "Let pose drawings drive the person in a picture, with MimicMotion or ControlNeXt-SVD."
    parser.set_defaults(run=run_character)
    parser.add_argument("image", metavar="PICTURE", help="picture of a person")
    parser.add_argument(
        "--poses",
        required=True,
        metavar="CLIP",
        help="pose drawings, skeletons on black: a video or a folder of pictures; the first is the pose of PICTURE",
    )
    parser.add_argument(
        "--pose-network", required=True, metavar="FILE", help="pose network, or the MimicMotion file that holds it"
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="the fine-tuned UNet of the pose network")
    parser.add_argument(
        "--complete-from", metavar="FILE", help="full svd_xt_1_1 checkpoint that supplies VAE and image encoder"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="CLIP",
        help=f"clip to write: .{', .'.join(FILE_KINDS)}, or a folder of PNG frames if there is no suffix",
    )
    clip = parser.add_argument_group("clip")
    clip.add_argument("--width", type=int, metavar="PIXELS", help="width, a multiple of 8 (default: 576)")
    clip.add_argument("--height", type=int, metavar="PIXELS", help="height, a multiple of 8 (default: 1024)")
    clip.add_argument("--fit", choices=FIT_MODES, help="how picture and drawings fill the clip (default: crop)")
    clip.add_argument(
        "--strength", type=float, metavar="N", help="how strictly the person follows the poses, 0 to 2 (default: 1)"
    )
    clip.add_argument(
        "--keep-first", action="store_true", default=None, help="keep the first frame, the picture's own pose"
    )
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--window", type=int, metavar="N", help="frames denoised at once; 72 for MimicMotion 1.1 (default: 16, or 24 "
        "for ControlNeXt)"
    )  # fmt: skip
    sampling.add_argument("--overlap", type=int, metavar="N", help="frames that windows share, 4 to 8 (default: 6)")
    sampling.add_argument("--steps", type=int, help="sampling steps, 15 to 30 (default: 25)")
    sampling.add_argument("--guidance", type=float, metavar="SCALE", help="guidance (default: 2, or 3 for ControlNeXt)")
    sampling.add_argument(
        "--augmentation", type=float, metavar="SIGMA", help="noise on the picture (default: 0, or 0.02 for ControlNeXt)"
    )
    sampling.add_argument("--solver", choices=list(SOLVERS), help="solver of the sampling (default: euler)")
    sampling.add_argument("--seed", type=int, help="seed of the noise (default: 42)")
    sampling.add_argument("--decode", metavar="exact|N", help="decode exactly, or N frames at a time (default: exact)")
    add_lora_option(sampling)
    output = parser.add_argument_group("machine and output")
    output.add_argument(
        "--playback-fps", type=float, default=PLAYBACK_FPS, metavar="FPS", help="frames per second (default: 15)"
    )
    output.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: 90)"
    )
    add_machine_options(output)


def run_character(options: argparse.Namespace) -> None:
    """Animate a person; bad input is found before the model is loaded."""
    start = time.monotonic()
    names = {field.name for field in fields(CharacterSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    settings = CharacterSettings(**given).resolve(pose_network_kind(options.pose_network))
    inspect_checkpoint(options.model)
    check_clip(options.output, fps=options.playback_fps, quality=options.quality)
    picture = open_picture(options.image)
    drawings, _, _ = read_clip(options.poses)
    with Progress(options.quiet) as progress:
        model = load_named_model(options, progress)
        network = load_pose_network(options.pose_network, device=model.device, dtype=model.dtype)
        progress.say(f"{options.image}: {len(drawings)} poses, {settings.width}x{settings.height}")
        report = {"on_step": progress.on_step, "on_decode": progress.on_decode}
        frames = animate_character(model, network, picture, drawings, settings, **report)
        metadata = {"image": Path(options.image).name, "model": Path(options.model).name, "variant": model.variant}
        metadata |= {"poses": Path(options.poses).name, "pose_network": network.name, "version": __version__}
        metadata |= {**asdict(settings), **lora_metadata(options)}
        clip = {"fps": options.playback_fps, "quality": options.quality, "metadata": metadata}
        print(write_clip(frames, options.output, **clip), flush=True)
        progress.say(f"{len(frames)} frames, {since(start)}")
