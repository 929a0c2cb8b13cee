"""Measurements of controls together, at the defaults: dragged objects, a camera that films them, and loops."""

import math

import torch
from torch import Tensor

from svd_core.controls.camera.control import camera_control, camera_signal
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.signal import SIGNAL_MODES
from svd_core.pipelines.between import loop
from svd_core.pipelines.steered import Steering
from svd_core.report.measuring import measure

from .bench import shown
from .camera import measured_move
from .photographs import Photograph, model
from .steered import disc, end_error

RADIUS, APART = 0.3, 0.5  # of each of two objects, and between their middles and that of the picture, in halves
PAIRS = ("0.25,0.5; 0.25,0.3 | 0.75,0.5; 0.75,0.7", "0.25,0.5; 0.4,0.5 | 0.75,0.5; 0.75,0.35")


def two_drags(photograph: Photograph, paths: str) -> dict:
    """Drag two discs; return how far each ends from where it was asked to, as a share of the width."""
    masks = torch.cat([_round(photograph, -APART), _round(photograph, APART)])
    clip = photograph.steered(steering=Steering(drag=paths, drag_mask=masks.movedim(1, -1)))
    picture, errors = shown(photograph.picture), []
    for mask, path in zip(masks, paths.split("|"), strict=True):
        errors.append(end_error(clip[-1], picture, mask[0] > 0.5, _asked(photograph, path)) / photograph.width)
    return {"error": max(errors), "errors": errors}


def filmed_drag(photograph: Photograph, case: str) -> dict:
    """Drag a disc while the camera pans; return the error of its end as a share of the width, and the pan."""
    path, move = (part.strip() for part in case.split("+"))
    mask = disc(photograph.height, photograph.width)
    clip = photograph.steered(steering=Steering(drag=path, drag_mask=mask.movedim(1, -1)), camera=move)
    pan = float(move.split()[-1]) * (1 if "right" in move else -1)
    right, down = _asked(photograph, path)
    asked = (right - pan * photograph.width, down)  # what the camera films moves the other way
    error = end_error(clip[-1], shown(photograph.picture), mask[0, 0] > 0.5, asked)
    return {"error": error / photograph.width, "pan": measured_move("pan", clip), "asked": pan}


def camera_loop(photograph: Photograph, path: str) -> dict:
    """Make a loop along a path that returns; return its seam in median steps, and how far it goes, as a share.

    asked: the same measurement of the frames that are imposed.
    """
    settings = photograph.settings(motion_bucket=10).resolve(model().config)
    signal = camera_signal(model().encode_latent, photograph.picture, parse_path(path), settings.frames)
    control = camera_control(signal.signal, next(iter(SIGNAL_MODES)))
    clip = loop(model(), photograph.picture, settings, controls=(control,))
    imposed = torch.stack([shown(frame) for frame in signal.warped.frames[:-1].split(1)])
    return {"seam": measure(clip).loop_score, "got": _farthest(clip), "asked": _farthest(imposed)}


def _farthest(clip: Tensor) -> float:
    """Return how far the camera goes from its start at most, in picture widths."""
    camera = measure(clip).camera
    return max(math.hypot(right, up) for right, up in zip(camera.right, camera.up, strict=True)) / 100


def _round(photograph: Photograph, right: float) -> Tensor:
    """Return a mask [1, 1, H, W] of a disc, `right` halves of the width from the middle."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, photograph.height), torch.linspace(-1, 1, photograph.width), indexing="ij"
    )
    return (((x - right).square() + y.square()).sqrt() < RADIUS).float()[None, None]


def _asked(photograph: Photograph, path: str) -> tuple[float, float]:
    """Return the move of a path "x,y; x,y" in pixels to the right and down."""
    start, end = ([float(value) for value in point.split(",")] for point in path.split(";"))
    return (end[0] - start[0]) * photograph.width, (end[1] - start[1]) * photograph.height


KINDS = {
    "two drags": (two_drags, PAIRS),
    "filmed drag": (filmed_drag, ("0.5,0.5; 0.7,0.5 + pan right 0.15", "0.5,0.5; 0.5,0.7 + pan left 0.15")),
    "camera loop": (camera_loop, ("pan right 0.15 then pan left 0.15", "tilt up 0.1 then tilt down 0.1")),
}
"""Kinds of measurements: the function, and its cases."""
