"""Warp a picture as a moving camera would see it: by homographies if it is flat, by points if it has depth.

Pictures are [1, C, H, W] of any value range, valid masks [T, 1, H, W] of 0 and 1. Holes are filled smoothly. What a
flat picture reveals beyond its borders also gets the texture of the picture mirrored there.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pictures.reading import lay_out
from .poses import Poses, intrinsics

TEAR = 0.1  # relative change of depth per pixel above which two pixels belong to different surfaces
SAME_DEPTH = 1 + TEAR  # points up to this factor behind the nearest belong to its surface, like neighbours on a slope
ENOUGH = 0.3  # splat weight that makes a pixel valid
MOST_POINTS = 3  # per side of a pixel
TEXTURE = 1.25  # most detail beyond the borders, times its median size in the picture
DETAIL = 1 / 32  # of the picture's side: finer structure is mirrored beyond the borders, forms are not
NEAREST = 0.05  # points nearer to the camera than this are not drawn


class Warped(NamedTuple):
    """Frames [T, C, H, W] with holes filled, and where they show the picture itself: [T, 1, H, W], 0 or 1."""

    frames: Tensor
    valid: Tensor


@torch.no_grad()
def warp(picture: Tensor, poses: Poses, depth: Tensor | None = None) -> Warped:
    """Return what the camera sees of `picture` [1, C, H, W] in every pose.

    depth: [1, 1, H, W], the distance of each pixel along z, 1 at the centre of the scene; None is a flat board at
    distance 1. It only matters if the camera changes its position. Frames without motion are the picture itself.
    """
    _check(picture, depth)
    picture, depth = lay_out(picture), None if depth is None else lay_out(depth)
    if depth is None or not poses.travels:
        frames, valid = zip(*_by_homography(picture, poses), strict=True)
    else:
        frames, valid = zip(*_by_points(picture, poses, depth), strict=True)
    return Warped(torch.cat(frames), torch.cat(valid))


def _check(picture: Tensor, depth: Tensor | None) -> None:
    if picture.ndim != 4 or len(picture) != 1:
        raise ValueError(f"the picture to warp has shape {list(picture.shape)}; give one, [1, channels, height, width]")
    if depth is None:
        return
    if depth.shape != (1, 1, *picture.shape[2:]):
        raise ValueError(
            f"the depth has shape {list(depth.shape)}, the picture {list(picture.shape)}; give [1, 1, height, width] "
            "of the same size"
        )
    if not bool((torch.isfinite(depth) & (depth > 0)).all()):
        raise ValueError("the depth has values that are not finite or not above 0; give distances, 1 at the centre")


def _by_homography(picture: Tensor, poses: Poses) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield frame and valid mask of each pose by looking up the source of each pixel (backward warp)."""
    height, width = picture.shape[2:]
    low, high = picture.amin(), picture.amax()
    whole = torch.ones_like(picture[:, :1])
    points = _pixels(width, height)  # [3, H * W]
    for matrix in poses.homographies(width, height):
        if torch.allclose(matrix, torch.eye(3, dtype=matrix.dtype), rtol=0, atol=1e-9):
            yield picture, whole
            continue
        x, y, scale = torch.linalg.inv(matrix) @ points
        # Half a pixel beyond the outer centres is still the picture.
        inside = (scale > 0) & (x / scale).sub(width / 2 - 0.5).abs().le(width / 2)
        inside = (inside & (y / scale).sub(height / 2 - 0.5).abs().le(height / 2)).reshape(1, 1, height, width)
        grid = torch.stack([(2 * x / scale + 1) / width - 1, (2 * y / scale + 1) / height - 1], dim=-1)
        grid = grid.reshape(1, height, width, 2).nan_to_num(4.0, 4.0, -4.0).clamp(-4, 4).to(picture)
        moved = F.grid_sample(picture, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        valid = inside.to(picture)
        yield fill_beyond(moved.clamp(low, high), valid), valid


def _by_points(picture: Tensor, poses: Poses, depth: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield frame and valid mask of each pose by projecting points of the picture in space (forward warp)."""
    height, width = picture.shape[2:]
    still = torch.eye(3, dtype=torch.float64)
    solid = _solid(depth)
    clouds = {1: _cloud(picture, depth, solid, 1)}
    for rotation, translation, zoom in zip(poses.rotation, poses.translation, poses.zoom, strict=True):
        if torch.allclose(rotation, still) and not translation.any() and float(zoom) == 1:
            yield picture, torch.ones_like(picture[:, :1])
            continue
        lens = intrinsics(width, height, zoom)
        camera = (lens @ rotation).to(picture), (lens @ translation).to(picture)[:, None]
        fine = _points_per_pixel(camera, clouds[1][1], solid)
        if fine not in clouds:
            clouds[fine] = _cloud(picture, depth, solid, fine)
        colours, points, keep = clouds[fine]
        x, y, z = camera[0] @ points + camera[1]
        keep = keep & (z > NEAREST)
        frame, weight = _splat(colours[:, keep], x[keep] / z[keep], y[keep] / z[keep], z[keep], height, width)
        valid = (weight > ENOUGH).to(picture)[None]
        yield fill_holes(frame[None], valid), valid


def _solid(depth: Tensor) -> Tensor:
    """Return where a pixel and its right and lower neighbours are one surface: [1, 1, H, W], boolean."""
    across = F.pad((depth[..., 1:] - depth[..., :-1]).abs(), (0, 1))
    down = F.pad((depth[..., 1:, :] - depth[..., :-1, :]).abs(), (0, 0, 0, 1))
    return torch.maximum(across, down) / depth <= TEAR


def _cloud(picture: Tensor, depth: Tensor, solid: Tensor, fine: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return colours [C, N] and points in space [3, N], `fine` x `fine` per pixel, and which of them to draw [N]."""
    height, width = picture.shape[2:]
    place = _pixels(width * fine, height * fine)
    place[:2] = (place[:2] + 0.5) / fine - 0.5
    if fine > 1:
        size = (height * fine, width * fine)
        picture, depth = (F.interpolate(part, size, mode="bilinear", align_corners=False) for part in (picture, depth))
        # Depths between the two sides of a tear belong to no surface.
        torn = F.max_pool2d((~solid).float(), 3, stride=1, padding=1)
        solid = F.interpolate(torn, size, mode="nearest") == 0
    rays = (torch.linalg.inv(intrinsics(width, height)) @ place).to(picture)
    return picture[0].flatten(1), rays * depth.flatten(), solid.flatten()


def _points_per_pixel(camera: tuple[Tensor, Tensor], points: Tensor, solid: Tensor) -> int:
    """Return how many points per side a pixel needs, so that a surface that grows has no gaps."""
    x, y, z = camera[0] @ points + camera[1]
    place = torch.stack([x, y]) / z.clamp(min=NEAREST)
    place = place.reshape(1, 2, *solid.shape[2:])
    across, down = (place[..., 1:] - place[..., :-1])[..., :-1, :], (place[..., 1:, :] - place[..., :-1, :])[..., :-1]
    stretch = torch.maximum(across.abs().amax(1), down.abs().amax(1))[solid[0, :, :-1, :-1]]
    if not len(stretch):
        return 1
    # A few pixels of extreme depth may have gaps, which are filled like holes.
    usual = float(stretch.kthvalue(max(1, len(stretch) * 99 // 100))[0])
    return min(MOST_POINTS, max(1, math.ceil(usual - 0.1)))


def _splat(colours: Tensor, x: Tensor, y: Tensor, z: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Splat points onto the four pixels around them, nearest surface only: picture [C, H, W] and weight [1, H, W]."""
    left, top = x.floor(), y.floor()
    corners = []
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - (x - left - dx).abs()) * (1 - (y - top - dy).abs())
            inside = (left + dx >= 0) & (left + dx < width) & (top + dy >= 0) & (top + dy < height) & (weight > 0.01)
            index = ((top + dy) * width + left + dx)[inside].long()
            corners.append((index, weight[inside], inside))
    nearest = torch.full((height * width,), float("inf"), device=z.device, dtype=z.dtype)
    for index, _, inside in corners:
        nearest.scatter_reduce_(0, index, z[inside], "amin")
    total = torch.zeros(height * width, device=z.device, dtype=z.dtype)
    picture = torch.zeros(len(colours), height * width, device=z.device, dtype=colours.dtype)
    for index, weight, inside in corners:
        weight = weight * (z[inside] <= nearest[index] * SAME_DEPTH)
        total.index_add_(0, index, weight)
        picture.index_add_(1, index, colours[:, inside] * weight)
    picture = picture / total.clamp(min=1e-6)
    return picture.reshape(-1, height, width), total.reshape(1, height, width)


def fill_holes(pictures: Tensor, valid: Tensor) -> Tensor:
    """Return `pictures` [T, C, H, W] with every pixel outside `valid` [T, 1, H, W] (0 or 1) filled smoothly.

    Valid pixels are unchanged; filled ones lie between the least and the greatest valid value of their picture. A
    picture without valid pixels becomes 0. (Push-pull: Gortler et al. 1996, "The Lumigraph", section 3.5.)
    """
    pictures, valid = lay_out(pictures), lay_out(valid)
    known = valid.to(pictures.dtype)
    levels = [(pictures * known, known)]
    while min(levels[-1][0].shape[-2:]) > 1:
        levels.append(_coarser(*levels[-1]))
    colour, known = levels.pop()
    average = colour.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1e-6)
    filled = average.expand_as(colour)
    for colour, known in reversed(levels):
        smooth = F.interpolate(filled, colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = colour + (1 - known) * smooth  # colours are premultiplied by `known`
    return torch.where(valid.bool(), pictures, filled)


def fill_beyond(mirrored: Tensor, valid: Tensor) -> Tensor:
    """Return pictures [T, C, H, W] filled smoothly outside `valid`, with the fine texture that they have there.

    mirrored: pictures that go on mirrored outside `valid` [T, 1, H, W] (0 or 1). A smooth border alone reads as blur
    wherever a model keeps what it is given; mirrored forms would double objects. Values stay in the picture's range.
    """
    if bool(valid.all()):
        return mirrored
    # Imported here because ComfyUI imports every pack at its start, and few starts need a warp.
    from ...flow.planes import blur

    filled = fill_holes(mirrored, valid)
    detail = mirrored - blur(mirrored, DETAIL * math.sqrt(mirrored.shape[2] * mirrored.shape[3]))
    # Texture passes, edges hardly: the mirrored outline of an object would be seen as its ghost.
    most = TEXTURE * detail.abs().flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    texture = torch.clamp(detail, -most, most)
    low, high = (edge(mirrored, dim=(1, 2, 3), keepdim=True) for edge in (torch.amin, torch.amax))
    return torch.where(valid.bool(), mirrored, torch.clamp(filled + texture, low, high))


def _coarser(colour: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return averages of 2x2 cells of premultiplied colours, and how far each cell is known, 0 to 1."""
    colour, weight = (F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in (colour, known))
    full = weight.clamp(max=0.25) * 4  # one known pixel of four is enough to rely on
    return colour / weight.clamp(min=1e-6) * full, full


def shrink(valid: Tensor, cells: int) -> Tensor:
    """Return `valid` [T, 1, H, W] with the edges of its holes moved outward by `cells`; picture borders stay."""
    if cells < 1:
        return valid
    return 1 - F.max_pool2d(1 - valid, 2 * cells + 1, stride=1, padding=cells)


def _pixels(width: int, height: int) -> Tensor:
    """Return homogeneous coordinates of the pixel centres, row by row: [3, H * W], float64."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten(), torch.ones(height * width, dtype=torch.float64)])
