"""`animate --end-image` and `animate --loop` on the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..controls.between import MODES
from ..pictures import open_picture
from ..pipelines.between import LOOP_MODES, inbetween, loop

if TYPE_CHECKING:
    from ..model.model import SVDModel
    from ..pipelines.clip import AnimateSettings


def add_between(group: argparse._ArgumentGroup) -> None:
    """Add the options for clips between given pictures."""
    group.add_argument(
        "--end-image",
        nargs="+",
        metavar="IMAGE",
        help="picture that the clip ends at; several are passed through in turn; --frames count from one to the next",
    )
    group.add_argument("--loop", action="store_true", help="return to the first picture, so that the clip can repeat")
    group.add_argument(
        "--between-mode",
        choices=LOOP_MODES,
        help="how ends are met: from both in turn, both blended, or for a loop of one picture rolled frames (default: "
        "take turns, of a loop blend)",
    )


def clip_between(options: argparse.Namespace) -> Callable[..., Tensor] | None:
    """Return what makes such a clip of (model, picture, settings, on_step=, on_decode=), or None if none is asked for.

    The end pictures are opened here. ValueError for options that exclude each other.
    """
    if not (options.end_image or options.loop):
        if options.between_mode:
            raise ValueError("--between-mode is given without end; add --end-image IMAGE or --loop, or leave it out")
        return None
    for name, asked in (("--camera", options.camera), ("--extend", options.extend)):
        if asked:
            raise ValueError(f"{name} and the pictures at the ends both say where the clip goes; leave one of them out")
    if options.end_image and options.between_mode not in (None, *MODES):
        raise ValueError(f"--between-mode {options.between_mode} is for --loop alone; use one of {', '.join(MODES)}")
    ends = [open_picture(path) for path in options.end_image or ()]
    mode = {"mode": options.between_mode} if options.between_mode else {}

    def make(model: "SVDModel", picture: Tensor, settings: "AnimateSettings", **report: Callable | None) -> Tensor:
        if ends:
            return inbetween(model, [picture, *ends], settings, closed=options.loop, **mode, **report)
        return loop(model, picture, settings, **mode, **report)

    return make


def between_metadata(options: argparse.Namespace) -> dict[str, object]:
    """What to note in the clip of these options; nothing where they are not used."""
    notes = {
        "end_images": [Path(path).name for path in options.end_image or ()],
        "loop": options.loop,
        "between_mode": options.between_mode,
    }
    return {name: value for name, value in notes.items() if value}
