"""A small storyboard and the command line, for its tests."""

from pathlib import Path

from PIL import Image

from svd_core.cli.main import main

TABLE = """image;seconds;move;bucket;seed;transition;fade;title
b.png;0.4;zoom in 1.1;40;5;;;Opening
a.png;0,3;;;;cross-fade;0.2;
a.png;0.7;none;200;;Dissolve 0.1;;"End; long"
"""
SMALL_OPTIONS = ("--device", "cpu", "--width", 32, "--height", 32, "--steps", 1, "--fps", 10)


def write_folder(folder: Path) -> Path:
    """A table of three panels and its two pictures, of different sizes."""
    ramp = Image.linear_gradient("L")
    ramp.resize((60, 40)).save(folder / "a.png")
    Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).resize((30, 50)).save(folder / "b.png")
    (folder / "board.csv").write_text(TABLE, encoding="utf-8")
    return folder


def command(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return main([str(argument) for argument in ("storyboard", *arguments)])
    except SystemExit as stop:  # argparse
        return stop.code
