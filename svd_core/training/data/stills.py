"""Training clips from photographs: a camera moves over the picture, and a window of its view becomes the clip.

The window lies where every frame of the clip shows the picture, so that there are no holes to fill.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...controls.camera.moves import parse_path
from ...controls.camera.path import CameraPath
from ...controls.camera.poses import poses_of
from ...controls.camera.warping import warp
from ...files import printable
from ...pictures.fitting import resize
from .cutting import ClipPlan
from .labels import speed_of_camera

SLOWEST, FASTEST = 0.25, 1.2  # range of the random factor on the amount of the move
SUPERSAMPLED = 1.5  # pixels of the warped picture per pixel of the clip, to keep it sharp
SMALLEST_CROP = 0.65  # of the largest possible window
GRAIN = 0.008  # noise of every frame, in -1..1, as a camera adds it
TRIES = 6


@dataclass(frozen=True)
class MovedStill:
    """A clip [T, 3, H, W] in -1..1 and its speed in % of the diagonal per second."""

    frames: Tensor
    speed: float


def check_move(move: str, frames: int) -> CameraPath:
    """Return the camera path of a text such as "pan left". Raises ValueError for one that does not move."""
    path = parse_path(move)
    if not bool(path.table(max(2, frames)).abs().max() > 0):
        raise ValueError(f"the camera move {printable(move)!r} does not move; use pan left, for example")
    return path


def move_still(
    picture: Tensor, path: CameraPath, plan: ClipPlan, fps: float, generator: torch.Generator, *, direction: float = 1.0
) -> MovedStill:
    """Return a clip of `picture` [1, 3, H, W] in -1..1 along `path`, with random speed, window and mirroring.

    direction: -1 for the opposite move, left for right and in for out. Raises ValueError where the path leaves the
    picture even at low speed.
    """
    if float(torch.rand((), generator=generator)) < 0.5:
        picture = picture.flip(3)
    span = torch.rand((), generator=generator)
    factor = float(SLOWEST * (FASTEST / SLOWEST) ** span)
    for _ in range(TRIES):
        poses = poses_of(path.table(plan.frames) * (direction * factor))
        seen = _seen(picture, poses)
        largest = _largest_window(seen, plan.width / plan.height)
        if largest >= 0.35:
            break
        factor /= 1.5
    else:
        raise ValueError(
            f"the camera path {printable(path.text)!r} leaves the picture; use smaller amounts, such as pan left 0.1"
        )
    share = largest * (SMALLEST_CROP + (1 - SMALLEST_CROP) * float(torch.rand((), generator=generator)))
    working = _working(picture, plan, share)
    warped = warp(working, poses).frames  # [T, 3, H', W']
    window = _window(seen, working.shape[2:], share, plan, generator)
    top, left, height, width = window
    clip = resize(warped[:, :, top : top + height, left : left + width], plan.width, plan.height)
    clip = (clip + GRAIN * torch.randn(clip.shape, generator=generator)).clamp(-1, 1)
    return MovedStill(clip, speed_of_camera(poses, tuple(working.shape[2:]), window, fps))


def _seen(picture: Tensor, poses) -> Tensor:
    """Return where every frame shows the picture: [h, w] 0 or 1, at a small size of the picture's aspect."""
    height, width = picture.shape[2:]
    scale = 96 / max(height, width)
    small = torch.ones(1, 1, max(8, round(height * scale)), max(8, round(width * scale)))
    holes = 1 - warp(small, poses).valid.amin(dim=0, keepdim=True)
    # A cell at the edge of a hole may contain part of it.
    return 1 - F.max_pool2d(holes, 3, stride=1, padding=1)[0, 0]


def _largest_window(seen: Tensor, aspect: float) -> float:
    """Return the width of the largest rectangle of this aspect inside `seen`, as a share of the largest possible."""
    whole = _fitting(seen.shape, aspect)
    for share in torch.linspace(1, 0.3, 29).tolist():
        if bool(_places(seen, whole, share).any()):
            return share
    return 0.0


def _fitting(size, aspect: float) -> tuple[float, float]:
    """Return (height, width) of the largest rectangle of an aspect in a picture of size (height, width)."""
    height, width = size
    return (width / aspect, width) if width / height < aspect else (height, height * aspect)


def _places(seen: Tensor, whole: tuple[float, float], share: float) -> Tensor:
    """Return the upper left corners [h', w'] at which a rectangle of `share` of `whole` lies inside `seen`."""
    size = [max(1, min(round(side * share), most)) for side, most in zip(whole, seen.shape, strict=True)]
    return -F.max_pool2d(-seen[None, None], size, stride=1)[0, 0] > 0.5


def _working(picture: Tensor, plan: ClipPlan, share: float) -> Tensor:
    """Return the picture resized so that a crop of `share` has SUPERSAMPLED times the width of the clip."""
    inner = _fitting(picture.shape[2:], plan.width / plan.height)
    scale = SUPERSAMPLED * plan.width / (inner[1] * share)
    size = [max(16, round(side * scale)) for side in picture.shape[2:]]
    return resize(picture, size[1], size[0])


def _window(seen: Tensor, size, share: float, plan: ClipPlan, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Return a random window (top, left, height, width) of `share` inside `seen`, in pixels of pictures of `size`."""
    aspect = plan.width / plan.height
    corners = _places(seen, _fitting(seen.shape, aspect), share).nonzero()
    row, column = corners[int(torch.randint(len(corners), (), generator=generator))].tolist()
    height, width = (round(side * share) for side in _fitting(size, aspect))
    top, left = round(row * size[0] / seen.shape[0]), round(column * size[1] / seen.shape[1])
    height, width = min(height, size[0]), min(width, size[1])
    return min(top, size[0] - height), min(left, size[1] - width), height, width
