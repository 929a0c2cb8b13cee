"""`python -m svd_core info FILE`: what a checkpoint is, or the settings of a clip."""

import argparse
import json
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..video import read_clip
from ..video.target import FILE_KINDS, frame_files

CLIPS = (*(f".{kind}" for kind in FILE_KINDS), ".mov", ".mkv", ".avi", ".m4v")


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.set_defaults(run=run_info)
    parser.add_argument("file", metavar="FILE", help="checkpoint file or folder, nano, or a clip")


def run_info(options: argparse.Namespace) -> None:
    """Print what a checkpoint holds, or the size, timing and settings of a clip."""
    path = Path(options.file)
    ours = path.is_dir() and frame_files(path)
    if not ours and path.suffix.lower() not in CLIPS:
        print(inspect_checkpoint(options.file).text())
        return
    frames, fps, metadata = read_clip(path)
    count, height, width = frames.shape[:3]
    print(f"{path.name}: {count} frames of {width}x{height}, {fps:g} per second")
    for name, value in metadata.items():
        print(f"  {name:<16} {value if isinstance(value, str) else json.dumps(value)}")
