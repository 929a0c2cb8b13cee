"""Depth of a picture for the warp: from a depth map, or guessed from a foreground mask."""

import torch
from torch import Tensor

from ...pictures.reading import lay_out

FAR_TO_NEAR = 4.0  # distance of the farthest point over that of the nearest
HORIZON = 0.4  # share of the height, from the top, of the guessed scene


def depth_from_map(brightness: Tensor, foreground: Tensor | None = None, *, far_to_near: float = FAR_TO_NEAR) -> Tensor:
    """Return distances [1, 1, H, W], 1 at the centre, from a map of inverse depth [1, 1, H, W]: bright is near.

    The range of the map is spread over `far_to_near`. A map of one value is a flat board at distance 1. A foreground
    [1, 1, H, W] (above 0.5) is set to its median distance, so that it moves in one piece.
    """
    _check(far_to_near)
    brightness = lay_out(brightness)
    low, high = brightness.aminmax()
    near = (brightness - low) / (high - low) if float(high - low) > 1e-3 else torch.ones_like(brightness)
    depth = _distance(near, far_to_near) if float(high - low) > 1e-3 else near
    if foreground is not None and bool((foreground > 0.5).any()):
        depth = torch.where(foreground > 0.5, depth[foreground > 0.5].median(), depth)
    return depth / _centre(depth, foreground)


def depth_from_foreground(foreground: Tensor, *, far_to_near: float = FAR_TO_NEAR) -> Tensor:
    """Return distances [1, 1, H, W], 1 at the object, for an object mask [1, 1, H, W] (above 0.5) on a plain.

    The plain rises to the horizon, and everything above is far. The object is as far away as the ground at its feet.
    Raises ValueError for an empty mask.
    """
    _check(far_to_near)
    foreground = lay_out(foreground)
    rows = (foreground > 0.5).flatten(0, 2).any(dim=1).nonzero()
    if not len(rows):
        raise ValueError("the foreground mask is empty; paint over the object, or remove the mask")
    height = foreground.shape[2]
    y = (torch.arange(height, device=foreground.device, dtype=torch.float32) + 0.5) / height
    near = ((y - HORIZON) / (1 - HORIZON)).clamp(0, 1)  # the inverse depth of a plain is linear in rows
    ground = _distance(near, far_to_near)[None, None, :, None].expand_as(foreground)
    depth = torch.where(foreground > 0.5, ground[0, 0, int(rows[-1]), 0], ground)
    return depth / _centre(depth, foreground)


def _distance(near: Tensor, far_to_near: float) -> Tensor:
    """Return distances, `far_to_near` to 1, of nearness 0..1."""
    return 1 / (1 / far_to_near + (1 - 1 / far_to_near) * near)


def _centre(depth: Tensor, foreground: Tensor | None) -> Tensor:
    """Return the distance that the camera orbits: the median of the foreground, or of the middle of the picture."""
    if foreground is not None and bool((foreground > 0.5).any()):
        return depth[foreground > 0.5].median()
    height, width = depth.shape[2:]
    return depth[..., height // 3 : height - height // 3, width // 3 : width - width // 3].median()


def _check(far_to_near: float) -> None:
    if not 1 < far_to_near <= 100:
        raise ValueError(f"the depth range must be above 1 and at most 100 (got {far_to_near:g}); use 2 to 10")
