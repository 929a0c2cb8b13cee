"""The camera moves that nano learns. A move depends only on the picture, the motion bucket and the frame rate.

Most clips follow one rule: the camera pushes in, and pans and tilts towards the bright side. Some clips have a free
move that does not follow from the picture; they teach the network to follow the motion in the noisy frames. Lengths
are in halves of the picture's shorter side, and frames count from 0.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SLOWEST_FPS, FASTEST_FPS = 5, 12
# With faster moves, so small a network cannot keep the exposure constant over 14 frames.
PAN = 0.020  # per frame at bucket 255, 7 frames per second, light all on one side
PUSH = 0.022  # log zoom per frame there


@dataclass(frozen=True)
class Move:
    """Constant speed per frame: pan right, tilt down, log zoom in, roll clockwise in radians, each [B]."""

    right: Tensor
    down: Tensor
    zoom: Tensor
    roll: Tensor

    def times(self, speed: Tensor) -> "Move":
        """Return the move `speed` [B] times as fast."""
        return Move(self.right * speed, self.down * speed, self.zoom * speed, self.roll * speed)


def speed_of(motion_bucket: Tensor | float, fps: Tensor | float) -> Tensor | float:
    """Return the speed for a bucket 0..255 and frames per second, as a share of the highest usual speed.

    At half as many frames per second, a clip moves twice as far from frame to frame. The network receives fps - 1.
    """
    return (motion_bucket / 255.0) * (7.0 / fps)


def bright_side(pictures: Tensor) -> Tensor:
    """Return the position of the light in [B, 3, H, W]: [B, 2], x right and y down, each in -1..1, 0 in the middle."""
    light = F.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), 16)[:, 0]  # [B, 16, 16]
    light = light - light.mean(dim=(1, 2), keepdim=True)
    axis = (torch.arange(16) + 0.5) / 8 - 1
    moments = torch.stack([(light * axis).sum(dim=(1, 2)), (light * axis[:, None]).sum(dim=(1, 2))], 1)
    return torch.tanh(3 * moments / light.abs().sum(dim=(1, 2)).clamp(min=0.5)[:, None])


def full_speed_move(side: Tensor) -> Move:
    """Return the fastest usual move for pictures whose light is at `side` [B, 2]."""
    length = side.norm(dim=1)
    towards = side * (PAN / length.clamp(min=1.0))[:, None]
    return Move(towards[:, 0], towards[:, 1], torch.full_like(length, PUSH), torch.zeros_like(length))


def free_move(count: int, generator: torch.Generator) -> Move:
    """Return `count` random moves: pans, tilts, zooms in and out, and rolls, often of only one kind."""
    kinds = torch.rand(count, 4, generator=generator) < 0.5
    size = torch.randn(count, 4, generator=generator) * torch.tensor([0.030, 0.030, 0.020, 0.015])
    size = size * kinds
    return Move(*size.unbind(1))


def choose(free: Tensor, move: Move, other: Move) -> Move:
    """Return `move` where `free` [B] is true, else `other`."""
    return Move(*(torch.where(free, a, b) for a, b in zip(vars(move).values(), vars(other).values(), strict=True)))


def film(planes: Tensor, move: Move, frames: int, height: int, width: int) -> Tensor:
    """Return clips [B, T, C, height, width] of pictures or latents [B, C, H, W], seen through a moving window.

    The window starts in the middle, without rotation and at scale 1. Sampling is bicubic; the autoencoder is trained
    for it.
    """
    time = torch.arange(frames, dtype=torch.float32)
    scale = torch.exp(-move.zoom[:, None] * time)  # [B, T]
    turn = move.roll[:, None] * time
    half = min(height, width) / 2  # the unit of lengths, in cells
    y, x = torch.meshgrid(centres(height), centres(width), indexing="ij")  # cells from the window's middle
    cosine, sine = (scale * turn.cos())[..., None, None], (scale * turn.sin())[..., None, None]
    across = cosine * x - sine * y + (move.right[:, None] * time * half)[..., None, None]
    along = sine * x + cosine * y + (move.down[:, None] * time * half)[..., None, None]
    rows, columns = planes.shape[-2:]
    grid = torch.stack([across * (2 / columns), along * (2 / rows)], dim=-1)  # [B, T, h, w, 2]
    seen = F.grid_sample(
        planes.repeat_interleave(frames, 0),
        grid.flatten(0, 1),
        "bicubic",
        padding_mode="reflection",
        align_corners=False,
    )
    return seen.unflatten(0, (len(planes), frames))


def centres(cells: int) -> Tensor:
    """Return the centres of `cells` cells in a row, in cells from their middle."""
    return torch.arange(cells) + 0.5 - cells / 2


def taught_move(picture: Tensor, motion_bucket: float, fps: float) -> Move:
    """Return the move of the rule for one picture [3, H, W], as a batch of one."""
    return full_speed_move(bright_side(picture[None])).times(torch.tensor([speed_of(motion_bucket, fps)]))


def expected_flow(picture: Tensor, motion_bucket: float, fps: float) -> float:
    """Return the mean displacement in pixels per frame of the rule's move for a picture [3, H, W]."""
    height, width = picture.shape[1:]
    move = taught_move(picture, motion_bucket, fps)
    half = min(height, width) / 2
    y, x = torch.meshgrid(centres(height), centres(width), indexing="ij")
    across = -move.right * half + move.zoom * x
    along = -move.down * half + move.zoom * y
    return float(torch.hypot(across, along).mean())


def heading(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return the right and down parts of directions [B] in radians: 0 is right, angles grow clockwise."""
    return torch.cos(angle % (2 * math.pi)), torch.sin(angle % (2 * math.pi))
