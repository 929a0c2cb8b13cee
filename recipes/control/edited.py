"""Measurements of Edit Clip: what a disc painted on the first frame, and the picture beside it, are at the end."""

import torch
from torch import Tensor

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import warp
from svd_core.pipelines.steered import Steering

from .bench import psnr
from .photographs import Photograph, model

MOVE = "pan right 0.12, zoom in 1.1, roll cw 4"
PLACE, RADIUS = (0.6, 0.3), 0.11  # of the disc, in shares of the width and height, and of the width
RED = (0.7, -0.6, -0.6)  # in -1..1
BESIDE = 2.0  # radii around the disc that do not count as the picture beside it


def edited(photograph: Photograph, case: str) -> dict:
    """Film the photograph, paint a disc on the first frame, and change the clip; compare the last frame with the truth.

    case: the source mode, or "source" for the clip as it is, and the share that is denoised. disc, beside: dB against
    the disc filmed in the scene, inside it and further away from it.
    """
    mode, _, share = case.partition(" ")
    painted = _painted(photograph)
    mask = _disc(photograph, 1.0)
    clip, truth, inside, around = (
        _filmed(photograph, picture) for picture in (photograph.picture, painted, mask, _disc(photograph, BESIDE))
    )
    inside, around = inside[-1, ..., 0] > 0.5, around[-1, ..., 0] < 0.01
    last = clip[-1]
    if mode != "source":
        steering = Steering(source_clip=clip, source_mode=mode, denoise=float(share))
        last = photograph.steered(painted, steering=steering)[-1]
    return {"disc": psnr(last[inside], truth[-1][inside]), "beside": psnr(last[around], truth[-1][around])}


def _filmed(photograph: Photograph, picture: Tensor) -> Tensor:
    """Return what a camera sees of a picture [1, C, H, W] in -1..1 along MOVE: [T, H, W, C] in 0..1."""
    frames = photograph.frames or model().config.frames
    seen = warp(picture.expand(-1, 3, -1, -1), parse_path(MOVE).poses(frames)).frames
    return ((seen + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def _disc(photograph: Photograph, radii: float) -> Tensor:
    """Return 1 in the disc of `radii` times its radius, -1 elsewhere: [1, 1, H, W]."""
    x = torch.arange(photograph.width) + 0.5 - PLACE[0] * photograph.width
    y = (torch.arange(photograph.height) + 0.5 - PLACE[1] * photograph.height)[:, None]
    return torch.where((x**2 + y**2).sqrt() < radii * RADIUS * photograph.width, 1.0, -1.0)[None, None]


def _painted(photograph: Photograph) -> Tensor:
    """Return the picture [1, 3, H, W] with the disc on it."""
    return torch.where(_disc(photograph, 1.0) > 0, torch.tensor(RED)[:, None, None], photograph.picture)


SHARES = ("0.4", "0.6", "0.7", "0.85")
KINDS = {
    "edited": (edited, ("source", *(f"{mode} {share}" for share in SHARES for mode in ("noise", "inversion")))),
}
"""Kinds of measurements: the function, and its cases."""
