"""`python -m svd_core convert IN OUT`: a checkpoint saved in another precision or layout, or a part of it."""

import argparse
import sys

from ..checkpoints.convert import LAYOUTS, PARTS, PRECISIONS, convert
from ..checkpoints.describe import inspect_checkpoint
from ..checkpoints.licence import licence_text


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    parser.description = "Save a checkpoint anew, tensor by tensor, with a notice of licence and changes beside it."
    parser.set_defaults(run=run_convert)
    parser.add_argument("source", metavar="IN", help="checkpoint file or folder, or nano")
    parser.add_argument("target", metavar="OUT", help="a .safetensors file, or the name of a new diffusers folder")
    parser.add_argument("--dtype", choices=tuple(PRECISIONS), help="precision (default: as stored)")
    parser.add_argument("--layout", choices=LAYOUTS, help="default: by the name of OUT")
    parser.add_argument("--part", choices=PARTS, default="all", help="which network (default: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress, no description")


def run_convert(options: argparse.Namespace) -> None:
    """Convert, and say what came of it."""

    def show(done: int, total: int) -> None:
        if not options.quiet and done * 10 // total > (done - 1) * 10 // total:
            print(f"tensor {done}/{total}", file=sys.stderr, flush=True)

    path = convert(
        options.source,
        options.target,
        dtype=options.dtype,
        layout=options.layout,
        part=options.part,
        on_progress=show,
    )
    if not options.quiet:
        info = inspect_checkpoint(path)
        print(info.text(), licence_text(info.variant), sep="\n", file=sys.stderr, flush=True)
    print(path, flush=True)
