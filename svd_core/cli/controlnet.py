"""Options of `animate` for a ControlNet: its file, the control pictures, and how they act."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.controlnet import LoadedControlNet, load_controlnet
from ..controls.controlnet import NUMBERS, SUMS, ControlNetControl
from ..controls.lines import line_drawing
from ..networks.config import UNetConfig
from ..pictures import open_picture
from ..pipelines.controlled import control_by_pictures
from ..pipelines.settings import AnimateSettings
from ..video import read_clip

OPTIONS = tuple(
    f"controlnet_{name}"
    for name in ("images", "lines", "strength", "start", "end", "mask", "sums", "numbers", "conditional")
)


def add_controlnet(group: argparse._ArgumentGroup) -> None:
    """Add the options."""
    group.add_argument(
        "--controlnet", metavar="FILE", help="SVD ControlNet that steers the clip, such as a depth or line-art one"
    )
    group.add_argument(
        "--controlnet-images",
        nargs="+",
        metavar="FILE",
        help="control pictures, one per frame: a clip, a folder of frames, or pictures in their order. The last is "
        "repeated if there are too few; a single one serves all frames",
    )
    group.add_argument(
        "--controlnet-lines",
        action="store_true",
        default=None,
        help="the control images are ordinary frames; draw their lines first, for a line-art ControlNet",
    )
    group.add_argument(
        "--controlnet-strength",
        type=_numbers,
        metavar="N,...",
        help="strength of the control, 0 to 1.5; several values are a curve over the frames (default: 1)",
    )
    group.add_argument(
        "--controlnet-start", type=float, metavar="SHARE", help="start of the control, 0 to 1 (default: 0)"
    )
    group.add_argument(
        "--controlnet-end",
        type=float,
        metavar="SHARE",
        help="end of the control, 0 to 1; 0.6 leaves the last details to the model (default: 1)",
    )
    group.add_argument("--controlnet-mask", metavar="FILE", help="picture that is white where the control acts")
    group.add_argument(
        "--controlnet-sums",
        choices=SUMS,
        help="as trained counts the residuals of fine levels up to four times; once is ComfyUI-Advanced-ControlNet's "
        "way (default: as trained)",
    )
    group.add_argument(
        "--controlnet-numbers", choices=NUMBERS, help="motion numbers that the ControlNet gets (default: auto)"
    )
    group.add_argument(
        "--controlnet-conditional",
        action="store_true",
        default=None,
        help="control the conditional pass only; by default both passes of CFG, as in training",
    )


def check_controlnet(options: argparse.Namespace) -> None:
    """Raise ValueError for options that lack each other, before anything is loaded."""
    for name in OPTIONS:
        if getattr(options, name) is not None and options.controlnet is None:
            raise ValueError(f"--{name.replace('_', '-')} has no effect without --controlnet FILE; add that")
    if options.controlnet is not None and not options.controlnet_images:
        raise ValueError("--controlnet needs --controlnet-images: a clip, a folder of frames, or pictures")


def open_controlnet(options: argparse.Namespace, dtype: torch.dtype | None) -> LoadedControlNet | None:
    """Return the ControlNet of the options in main memory, None for none; the model moves it where it computes."""
    return None if options.controlnet is None else load_controlnet(options.controlnet, dtype=dtype)


def control_of(
    options: argparse.Namespace, loaded: LoadedControlNet, settings: AnimateSettings, config: UNetConfig
) -> ControlNetControl:
    """Return the control of the options for one clip of resolved settings."""
    pictures = read_control(options.controlnet_images)
    if options.controlnet_lines:
        pictures = line_drawing(pictures)
    mask = None if options.controlnet_mask is None else open_picture(options.controlnet_mask)[..., :3].mean(-1)
    given = {"start": options.controlnet_start, "end": options.controlnet_end, "sums": options.controlnet_sums}
    numbers = options.controlnet_numbers or NUMBERS[0]
    return control_by_pictures(
        loaded.network,
        pictures,
        settings,
        config,
        strength=options.controlnet_strength or 1.0,
        mask=mask,
        numbers=loaded.numbers if numbers == NUMBERS[0] else numbers,
        both=not options.controlnet_conditional,
        **{name: value for name, value in given.items() if value is not None},
    )


def read_control(paths: list[str]) -> Tensor:
    """Return control pictures [N, H, W, 3] in 0..1 of a clip, a folder of frames, or several pictures of one size."""
    if len(paths) == 1 and (Path(paths[0]).is_dir() or Path(paths[0]).suffix.lower() in CLIPS):
        return read_clip(paths[0])[0]
    opened = [open_picture(path)[..., :3] for path in paths]
    sizes = {tuple(picture.shape[1:3]) for picture in opened}
    if len(sizes) > 1:
        shown = ", ".join(sorted(f"{width}x{height}" for height, width in sizes))
        raise ValueError(f"the control images have several sizes ({shown}); make them of one size")
    return torch.cat(opened)


CLIPS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", ".webp", ".apng")


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()] or [1.0]
    except ValueError:
        raise argparse.ArgumentTypeError(f"strengths must be numbers (got {text!r}); write 1, or 0,1,1") from None
