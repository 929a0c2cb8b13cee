"""Options of `animate` that steer a clip: end pictures and loops, motion masks, drags."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from ..controls.between import INBETWEEN_MODES
from ..controls.brush import motion_brush
from ..controls.camera.control import fit_map
from ..controls.camera.path import EASINGS
from ..controls.drag import BACKGROUND, DragPath, drag_signal, parse_drags
from ..controls.mask import FEATHER, fit_masks
from ..controls.signal import DualClock
from ..model.model import SVDModel
from ..pictures import as_batch, fit, open_picture
from ..pipelines.between import LOOP_MODES, inbetween, loop
from ..pipelines.clip import AnimateSettings, animate
from ..sampling.controls import Control


def add_between(group: argparse._ArgumentGroup) -> None:
    """Add the options for clips between given pictures."""
    group.add_argument(
        "--end-image",
        nargs="+",
        metavar="IMAGE",
        help="end the clip at this picture. Several pictures are reached one after the other; --frames then counts "
        "from one to the next",
    )
    group.add_argument(
        "--loop", action="store_true", help="end where the clip began, so that it repeats without a jump"
    )
    group.add_argument(
        "--between-mode",
        choices=LOOP_MODES,
        help="how the clip reaches its end: take turns denoises from both ends alternately, blend mixes the two, roll "
        "shifts the frames of a loop of one picture (default: take turns; for a loop, blend)",
    )


def clip_between(options: argparse.Namespace) -> Callable[..., Tensor] | None:
    """Return a function of (model, picture, settings, on_step=, on_decode=) that makes the clip of these options.

    None if they are not used. The end pictures are opened here. Raises ValueError for options that exclude each other.
    """
    if not (options.end_image or options.loop):
        if options.between_mode:
            raise ValueError(
                "--between-mode has no effect without --end-image IMAGE or --loop; add one, or leave it out"
            )
        return None
    for name, asked in (("--camera", options.camera), ("--extend", options.extend)):
        if asked:
            raise ValueError(f"{name} cannot be combined with --end-image or --loop; leave one of them out")
    if options.end_image and options.between_mode not in (None, *INBETWEEN_MODES):
        known = ", ".join(INBETWEEN_MODES)
        raise ValueError(f"--between-mode {options.between_mode} only applies to --loop; use one of {known}")
    ends = [open_picture(path) for path in options.end_image or ()]
    mode = {"mode": options.between_mode} if options.between_mode else {}

    def make(model: SVDModel, picture: Tensor, settings: AnimateSettings, **report: Callable | None) -> Tensor:
        if ends:
            return inbetween(model, [picture, *ends], settings, closed=options.loop, **mode, **report)
        return loop(model, picture, settings, **mode, **report)

    return make


def between_metadata(options: argparse.Namespace) -> dict[str, object]:
    """Return the entries for these options in a clip's metadata, none where they are not used."""
    notes = {
        "end_images": [Path(path).name for path in options.end_image or ()],
        "loop": options.loop,
        "between_mode": options.between_mode,
    }
    return {name: value for name, value in notes.items() if value}


def add_brush(group: argparse._ArgumentGroup) -> None:
    """Add the options for motion masks and drags."""
    group.add_argument(
        "--motion-mask", metavar="FILE", help="picture of where things move: white areas move, black areas stay still"
    )
    group.add_argument(
        "--mask-feather",
        type=float,
        metavar="N",
        help=f"width of the soft edge of the mask, in %% of the side, 0 to 10 (default: {FEATHER:g})",
    )
    group.add_argument(
        "--mask-strength",
        type=float,
        metavar="N",
        help="share of the steps in which still areas are held, 0 to 1. Lower it if edges look cut out (default: 1)",
    )
    group.add_argument("--still-bucket", type=float, metavar="N", help="motion bucket of the still areas, 1 to 255")
    group.add_argument("--moving-bucket", type=float, metavar="N", help="motion bucket of the moving areas, 1 to 255")
    group.add_argument(
        "--no-keep-still",
        action="store_true",
        help="show what the model made of the still areas, instead of the pixels of your picture",
    )
    group.add_argument(
        "--drag",
        metavar="PATH",
        help='move the object of --drag-mask along the points "x,y; x,y", in 0..1 of width and height',
    )
    group.add_argument("--drag-mask", metavar="FILE", help="picture of the object to drag, white on black")
    group.add_argument(
        "--drag-scale", metavar="N,...", help="sizes that the object reaches one after the other, starting at 1"
    )
    group.add_argument(
        "--drag-rotation", metavar="N,...", help="angles in degrees that the object reaches, starting at 0"
    )
    group.add_argument("--drag-easing", choices=tuple(EASINGS), help="speed along the path (default: linear)")
    group.add_argument(
        "--drag-strength",
        type=float,
        metavar="N",
        help="how strictly the object follows the path: 0 is off, 2 is nearly a moved cut-out (default: 1)",
    )
    group.add_argument(
        "--drag-background",
        type=float,
        metavar="N",
        help=f"how firmly the rest of the picture is held, 0 to 1 (default: {BACKGROUND})",
    )


def clip_steered(options: argparse.Namespace) -> Callable[..., Tensor] | None:
    """Return a function with the arguments of `animate` that makes the clip of these options, None without them.

    Masks are opened here. Raises ValueError for options without their mask.
    """
    named = ("mask_feather", "mask_strength", "still_bucket", "moving_bucket")
    asked = [name for name in named if vars(options)[name] is not None]
    if options.motion_mask is None and (asked or options.no_keep_still):
        name = (asked or ["no_keep_still"])[0].replace("_", "-")
        raise ValueError(f"--{name} has no effect without --motion-mask FILE; add that, or leave it out")
    if (options.drag is None) != (options.drag_mask is None):
        raise ValueError("--drag and --drag-mask need each other; give the path and the mask of the object")
    dragging = ("drag_scale", "drag_rotation", "drag_easing", "drag_strength", "drag_background")
    for name in (name for name in dragging if options.drag is None and vars(options)[name] is not None):
        raise ValueError(f"--{name.replace('_', '-')} has no effect without --drag PATH; add that, or leave it out")
    if options.motion_mask is None and options.drag is None:
        return None
    if options.drag is not None and options.camera:
        raise ValueError("--camera and --drag cannot be combined; leave one of them out")
    mask = None if options.motion_mask is None else open_picture(options.motion_mask)
    dragged = None if options.drag_mask is None else open_picture(options.drag_mask)
    paths = () if options.drag is None else _paths(options)
    _check_numbers(options, paths)

    def make(model: SVDModel, picture: Tensor, settings: AnimateSettings, **more) -> Tensor:
        settings = settings.resolve(model.config)
        batch = as_batch(picture, settings.background)
        size = tuple(batch.shape[2:])
        fitted, _ = fit(batch, settings.width, settings.height, settings.fit)
        controls: list[Control] = []
        if mask is not None:
            controls.append(_brush(options, model, fitted, mask, size, settings))
        if dragged is not None:
            controls.append(_drag(options, model, fitted, dragged, paths[0], size, settings))
        return animate(model, picture, settings, controls=controls, **more)

    return make


def brush_metadata(options: argparse.Namespace) -> dict[str, object]:
    """Return the entries for these options in a clip's metadata, none where they are not used."""
    notes = {
        "motion_mask": options.motion_mask and Path(options.motion_mask).name,
        "drag_mask": options.drag_mask and Path(options.drag_mask).name,
        "keep_still": False if options.no_keep_still else None,
    }
    names = ("mask_feather", "mask_strength", "still_bucket", "moving_bucket", "drag", "drag_scale", "drag_rotation")
    notes |= {name: vars(options)[name] for name in (*names, "drag_easing", "drag_strength", "drag_background")}
    return {name: value for name, value in notes.items() if value is not None}


def _check_numbers(options: argparse.Namespace, paths: Sequence[DragPath]) -> None:
    """Make the controls of a blank picture without a model, to find bad numbers before a model is loaded."""
    side = 64
    blank = SimpleNamespace(encode_latent=lambda image: torch.zeros(len(image), 4, side // 8, side // 8))
    settings = SimpleNamespace(width=side, height=side, fit="stretch", frames=2)
    shared = (options, blank, torch.zeros(1, 3, side, side), torch.ones(1, side, side))
    if options.motion_mask is not None:
        _brush(*shared, (side, side), settings)
    for path in paths:
        _drag(*shared, path, (side, side), settings)


def _paths(options: argparse.Namespace) -> list[DragPath]:
    easing = options.drag_easing or "linear"
    paths = parse_drags(options.drag, options.drag_scale or "", options.drag_rotation or "", easing)
    if len(paths) != 1:
        raise ValueError(f"--drag takes 1 path (got {len(paths)}); use the node for several objects")
    return paths


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


@torch.no_grad()
def _brush(
    options: argparse.Namespace,
    model: SVDModel,
    fitted: Tensor,
    mask: Tensor,
    size: tuple[int, int],
    settings: AnimateSettings,
) -> Control:
    masks = fit_masks(mask, size, settings.width, settings.height, settings.fit)
    given = _given(
        strength=options.mask_strength,
        feather=options.mask_feather,
        still_bucket=options.still_bucket,
        moving_bucket=options.moving_bucket,
    )
    return motion_brush(model.encode_latent, fitted, masks, keep_still=not options.no_keep_still, **given)


def _drag(
    options: argparse.Namespace,
    model: SVDModel,
    fitted: Tensor,
    mask: Tensor,
    path: DragPath,
    size: tuple[int, int],
    settings: AnimateSettings,
) -> Control:
    target = (settings.width, settings.height, settings.fit)
    objects = [(fit_map(mask, 0, size, *target, "object mask").clamp(0, 1), path)]
    given = _given(background=options.drag_background)
    made = drag_signal(model.encode_latent, fitted, objects, settings.frames, **given)
    return DualClock(made.signal, **_given(strength=options.drag_strength))
