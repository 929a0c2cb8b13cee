"""Masks of motion: painted maps fitted to a clip, feathered towards what moves, and the still that is kept below them.

Maps are [1|T, 1, H, W] in 0..1: 0 stands still, 1 moves freely.
"""

import logging
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.fitting import FitMode, resize
from .camera.control import fit_map

log = logging.getLogger("svd_reel")

FEATHER = 3.0  # per cent of the mean side: 23 pixels, about three latent cells, at 1024x576
NOTHING = 0.02  # mask values below are no paint: resized maps ring


def fit_masks(masks: Tensor, picture_size: tuple[int, int], width: int, height: int, mode: FitMode) -> Tensor:
    """Return masks [H, W], [B, H, W] or [B, H, W, C] fitted as the picture of (height, width) is: [B, 1, H, W] in 0..1.

    A mask of another size than the picture is resized first, which the log says. ValueError for values outside 0..1.
    """
    rows = masks[None] if masks.ndim == 2 else masks
    if not rows.numel() or not bool((torch.isfinite(rows) & (rows > -0.01) & (rows < 1.01)).all()):
        raise ValueError("the motion mask is empty or leaves 0 to 1; give values from 0 (stands still) to 1 (moves)")
    fitted = [fit_map(row[None], 0, picture_size, width, height, mode, "motion mask") for row in rows]
    fitted = torch.cat(fitted).clamp(0, 1)
    return torch.where(fitted < NOTHING, 0.0, torch.where(fitted > 1 - NOTHING, 1.0, fitted))


def feather_pixels(per_cent: float, height: int, width: int) -> int:
    """Return a feather in per cent of the mean side of a picture, in pixels; ValueError outside 0 to 25."""
    if not (math.isfinite(per_cent) and 0 <= per_cent <= 25):
        raise ValueError(f"the feather is {per_cent:g} %, but it must be from 0 to 25; use 2 to 5")
    return round(per_cent / 100 * math.sqrt(height * width))


def feathered(masks: Tensor, radius: int) -> Tensor:
    """Return masks [N, 1, H, W] with edges that fall to 0 over 2 * `radius` pixels, all of it inside what moves.

    What was 0 stays exactly 0. Where everything painted is thinner than the feather, a narrower one is taken.
    """
    wanted, most = radius, float(masks.max())
    while radius >= 1:
        kernel = {"kernel_size": 2 * radius + 1, "stride": 1, "padding": radius}
        soft = F.avg_pool2d(-F.max_pool2d(-masks, **kernel), **kernel, count_include_pad=False)
        if float(soft.max()) > 0.99 * most or most == 0:
            break
        radius //= 2
    if radius < wanted:
        log.warning("what is painted is thin, so its feather is %d pixels wide, not %d", 2 * radius, 2 * wanted)
    return soft if radius >= 1 else masks


class Kept(NamedTuple):
    """What shows where nothing may move: a picture [1, 3, H, W] in 0..1, by `share` [1|T, 1, H, W] of every pixel."""

    picture: Tensor
    share: Tensor

    def over(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with the picture laid over them; exactly the picture where the share is 1.

        Frames of another size get a resized picture, which the log says; a share per frame is held after its last.
        """
        picture, share = self.picture, self.share
        height, width = frames.shape[1:3]
        if picture.shape[2:] != frames.shape[1:3]:
            h, w = picture.shape[2:]
            log.warning("the kept still is %dx%d, the frames %dx%d; it was resized", w, h, width, height)
            picture, share = resize(picture, width, height).clamp(0, 1), resize(share, width, height).clamp(0, 1)
        index = torch.arange(len(frames)).clamp(max=len(share) - 1)
        weight = share.to(frames)[index.to(frames.device)].movedim(1, -1)  # [T, H, W, 1]
        still = picture.to(frames).movedim(1, -1)  # [1, H, W, 3]
        return torch.where(weight >= 1, still, torch.lerp(frames, still.expand_as(frames), weight))


def kept_still(picture: Tensor, masks: Tensor, radius: int) -> Kept:
    """Return a fitted picture [1, 3, H, W] in -1..1 to be kept where masks [1|T, 1, H, W] are 0, feathered outwards."""
    moves = feathered((masks > 0).to(masks), radius)
    return Kept(((picture + 1) / 2).clamp(0, 1), 1 - moves * moves * (3 - 2 * moves))
