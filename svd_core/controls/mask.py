"""Masks of motion: painted maps fitted to a clip and feathered, and the picture that is shown where nothing moves.

Maps are [1|T, 1, H, W] in 0..1: 0 stands still, 1 moves freely.
"""

import logging
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.fitting import FitMode, resize
from ..pictures.reading import lay_out
from .camera.control import fit_map

log = logging.getLogger("svd_reel")

FEATHER = 3.0  # per cent of the mean side: 23 pixels, about three latent cells, at 1024x576
NOTHING = 0.02  # mask values this close to 0 or 1 are set to it, because resized maps ring


def fit_masks(masks: Tensor, picture_size: tuple[int, int], width: int, height: int, mode: FitMode) -> Tensor:
    """Return masks fitted as the picture of (height, width) is: [B, 1, H, W] in 0..1.

    masks: [H, W], [B, H, W] or [B, H, W, C]. A mask of another size than the picture is resized first, with a warning.
    Raises ValueError for an empty mask and for values outside 0..1.
    """
    rows = masks[None] if masks.ndim == 2 else masks
    if not rows.numel() or not bool((torch.isfinite(rows) & (rows > -0.01) & (rows < 1.01)).all()):
        raise ValueError(
            "the motion mask is empty, or has values outside 0..1; give values from 0 (stands still) to 1 (moves)"
        )
    fitted = [fit_map(row[None], 0, picture_size, width, height, mode, "motion mask") for row in rows]
    fitted = torch.cat(fitted).clamp(0, 1)
    return torch.where(fitted < NOTHING, 0.0, torch.where(fitted > 1 - NOTHING, 1.0, fitted))


def feather_pixels(per_cent: float, height: int, width: int) -> int:
    """Return a feather in pixels, given in per cent of the mean side; raises ValueError outside 0 to 25 per cent."""
    if not (math.isfinite(per_cent) and 0 <= per_cent <= 25):
        raise ValueError(f"the feather must be 0 to 25 % (got {per_cent:g}); use 2 to 5")
    return round(per_cent / 100 * math.sqrt(height * width))


def feathered(masks: Tensor, radius: int) -> Tensor:
    """Return masks [N, 1, H, W] with soft edges 2 * `radius` pixels wide, inside the parts that move.

    Pixels of 0 stay exactly 0. If everything painted is thinner than the feather, a narrower feather is used, with a
    warning.
    """
    masks = lay_out(masks)
    wanted, most = radius, float(masks.max())
    while radius >= 1:
        kernel = {"kernel_size": 2 * radius + 1, "stride": 1, "padding": radius}
        soft = F.avg_pool2d(-F.max_pool2d(-masks, **kernel), **kernel, count_include_pad=False)
        if float(soft.max()) > 0.99 * most or most == 0:
            break
        radius //= 2
    if radius < wanted:
        log.warning(
            "the painted area is thinner than the feather, so the feather is %d pixels wide instead of %d",
            2 * radius,
            2 * wanted,
        )
    return soft if radius >= 1 else masks


class StillOverlay(NamedTuple):
    """A picture [1, 3, H, W] in 0..1 to show where nothing moves, by `share` [1|T, 1, H, W] of every pixel."""

    picture: Tensor
    share: Tensor

    def over(self, frames: Tensor) -> Tensor:
        """Return frames [T, H, W, 3] in 0..1 with the picture laid over them, exactly the picture where the share is 1.

        For frames of another size the picture is resized, with a warning. The last share serves all later frames.
        """
        picture, share = self.picture, self.share
        height, width = frames.shape[1:3]
        if picture.shape[2:] != frames.shape[1:3]:
            h, w = picture.shape[2:]
            log.warning("the still picture is %dx%d, the frames %dx%d; the picture was resized", w, h, width, height)
            picture, share = resize(picture, width, height).clamp(0, 1), resize(share, width, height).clamp(0, 1)
        index = torch.arange(len(frames)).clamp(max=len(share) - 1)
        frames = lay_out(frames)
        weight = lay_out(share.to(frames)[index.to(frames.device)].movedim(1, -1))  # [T, H, W, 1]
        still = lay_out(picture.to(frames).movedim(1, -1))  # [1, H, W, 3]
        return torch.where(weight >= 1, still, torch.lerp(frames, still.expand_as(frames), weight))


def still_overlay(picture: Tensor, masks: Tensor, radius: int) -> StillOverlay:
    """Return the overlay of a fitted picture [1, 3, H, W] in -1..1 where masks [1|T, 1, H, W] are 0, feathered."""
    moves = feathered((masks > 0).to(masks), radius)
    return StillOverlay(((lay_out(picture) + 1) / 2).clamp(0, 1), 1 - moves * moves * (3 - 2 * moves))
