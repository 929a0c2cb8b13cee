"""`svd-reel convert IN OUT`: save a checkpoint in another precision or layout, or one part of it; also pickles."""

import argparse
import sys
from pathlib import Path

from ..checkpoints.backward_motion import save_backward_motion
from ..checkpoints.convert import LAYOUTS, PARTS, PRECISIONS, convert
from ..checkpoints.describe import inspect_checkpoint
from ..checkpoints.family import adapter_kind
from ..checkpoints.licence import licence_text
from ..checkpoints.load import read_state_dict
from ..files import remove_leftovers
from .pickles import describe_pickle, is_pickle, open_pickle
from .progress import Progress


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    parser.description = (
        "Save a checkpoint in another precision or layout, tensor by tensor. A notice of the licence and of the "
        "changes is written beside it. Pickled files (.ckpt, .pth, .bin) are read without running any code in them. A "
        "whole MotionCtrl model is reduced to its adapter for svd."
    )
    parser.set_defaults(run=run_convert)
    parser.add_argument(
        "source", metavar="IN", help="checkpoint file (.safetensors, .ckpt, .pth, .bin) or folder, or nano"
    )
    parser.add_argument("target", metavar="OUT", help="a .safetensors file, or the name of a new diffusers folder")
    parser.add_argument(
        "--dtype",
        choices=tuple(PRECISIONS),
        help="store the weights in this precision; fp16 halves a float32 file (default: as stored)",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="single file or diffusers folder (default: single if OUT ends in .safetensors)",
    )
    parser.add_argument("--part", choices=PARTS, default="all", help="save only this network (default: all)")
    parser.add_argument(
        "--backward-motion",
        metavar="SVD",
        help="IN is the unet folder of Generative Inbetweening: save what it changes in SVD, its base, for "
        "animate --between-weights",
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress and no description")


def run_convert(options: argparse.Namespace) -> None:
    """Convert the checkpoint, and describe the result unless --quiet is given."""
    remove_leftovers(Path(options.target).absolute().parent)
    with Progress(options.quiet) as progress:
        source = options.source
        if is_pickle(source) and options.backward_motion is None:
            source = open_pickle(source)
            progress.say(describe_pickle(source))
        if options.backward_motion is not None:
            _check_alone(options)
            path = save_backward_motion(source, options.backward_motion, options.target)
        else:
            path = convert(
                source,
                options.target,
                dtype=options.dtype,
                layout=options.layout,
                part=options.part,
                on_progress=lambda done, total: progress.count("converting", done, total, unit="tensor"),
            )
    if not options.quiet:
        print(_description(path), file=sys.stderr, flush=True)
    print(path, flush=True)


def _check_alone(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do nothing beside --backward-motion."""
    for name, default in (("dtype", None), ("layout", None), ("part", "all")):
        if getattr(options, name) != default:
            raise ValueError(f"--{name} does not apply to --backward-motion, which writes fp16; leave it out")


def _description(path: Path) -> str:
    """Return what a new file or folder holds, and its licence."""
    kind = adapter_kind(read_state_dict(path).shapes)
    if kind is None:
        info = inspect_checkpoint(path)
        return f"{info.text()}\n{licence_text(info.variant)}"
    tensors = read_state_dict(path)
    return f"{path.name}: {kind.label}, {len(tensors)} tensors, {tensors.size:,} bytes\n{licence_text(kind.name)}"
