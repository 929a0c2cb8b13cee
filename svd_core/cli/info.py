"""`svd-reel info FILE`: what a checkpoint is, or the settings of a clip."""

import argparse
import json
from pathlib import Path

from ..checkpoints import inspect_checkpoint
from ..files import printable
from ..video import open_clip
from ..video.picture_clips import ANIMATED_SUFFIXES, frames_in

CLIPS = (*ANIMATED_SUFFIXES, ".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v")
MOST_SHOWN = 500  # characters of a setting


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.description = (
        "Print the variant, parts and precision of a checkpoint; or the size, rate and settings of a clip."
    )
    parser.set_defaults(run=run_info)
    parser.add_argument("file", metavar="FILE", help="checkpoint file or folder, nano, clip file, or folder of frames")


def run_info(options: argparse.Namespace) -> None:
    """Print the description of a checkpoint; or size, timing and settings of a clip, read from its header."""
    path = Path(options.file)
    sequence = path.is_dir() and not (path / "model_index.json").exists() and frames_in(path)
    if not sequence and path.suffix.lower() not in CLIPS:
        print(inspect_checkpoint(options.file).text())
        return
    with open_clip(path) as clip:
        count = clip.header_frames or len(clip)
        rate = f", {float(clip.fps):g} per second" if clip.fps else ""
        print(f"{path.name}: {count} frames of {clip.width}x{clip.height}{rate}")
        for name, value in clip.metadata.items():
            print(f"  {printable(name):<16} {shown(value)}")


def shown(value: object) -> str:
    """Return a setting that a file holds as text for a terminal: escaped, and cut to MOST_SHOWN characters."""
    return printable(value if isinstance(value, str) else json.dumps(value), MOST_SHOWN)
