"""`svd-reel info FILE`: what a checkpoint is, or the settings of a clip."""

import argparse
import json
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..video import read_clip
from ..video.target import FILE_KINDS, frame_files

CLIPS = (*(f".{kind}" for kind in FILE_KINDS), ".mov", ".mkv", ".avi", ".m4v")


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.description = (
        "Print the variant, parts and precision of a checkpoint; or the size, rate and settings of a clip."
    )
    parser.set_defaults(run=run_info)
    parser.add_argument("file", metavar="FILE", help="checkpoint file or folder, nano, clip file, or folder of frames")


def run_info(options: argparse.Namespace) -> None:
    """Print the description of a checkpoint or of a clip."""
    path = Path(options.file)
    is_clip = path.suffix.lower() in CLIPS or (path.is_dir() and frame_files(path))
    if not is_clip:
        print(inspect_checkpoint(options.file).text())
        return
    frames, fps, metadata = read_clip(path)
    count, height, width = frames.shape[:3]
    print(f"{path.name}: {count} frames of {width}x{height}, {fps:g} per second")
    for name, value in metadata.items():
        print(f"  {name:<16} {value if isinstance(value, str) else json.dumps(value)}")
