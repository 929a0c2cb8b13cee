"""The two numbers that a training clip is told by: motion bucket and frames per second.

Nobody has published what SVD's motion buckets measure, so the rule is ours: the mean length of the optical flow in per
cent of the picture's diagonal per second, m, gives the bucket 255 m / (m + 5). It rises with every motion, is 0 for a
still and 127 for 5 % a second, about 8 pixels a frame at 1024x576 and 7 frames per second.
"""

import math

import torch
from torch import Tensor

from ...controls.camera.poses import Poses
from ...flow.dense import dense_flow
from ...flow.planes import luminance, resize
from ...flow.shared import fit_similarity

MIDDLE = 5.0  # per cent of the diagonal per second that bucket 127.5 stands for
LONGEST_SIDE = 160  # pixels: flow of a whole folder is measured, and a label needs no hundredths
MOST_PAIRS = 6


def bucket_of(speed: float) -> float:
    """Return the motion bucket 0..255 of a speed in per cent of the diagonal per second."""
    return 255.0 * speed / (speed + MIDDLE)


def speed_of(bucket: float) -> float:
    """Return the speed in per cent of the diagonal per second that a bucket below 255 stands for."""
    if not 0 <= bucket < 255:
        raise ValueError(f"motion bucket {bucket:g} stands for no speed; use 0 to 254")
    return MIDDLE * bucket / (255.0 - bucket)


@torch.no_grad()
def measured_speed(clip: Tensor, fps: float) -> float:
    """Return how fast a clip [T, 3, H, W] in -1..1 at `fps` moves: per cent of the diagonal per second.

    The mean over up to six pairs of neighbouring frames, spread over the clip.
    """
    pairs = min(MOST_PAIRS, len(clip) - 1)
    first = torch.linspace(0, len(clip) - 2, pairs).round().long()
    grey = luminance((clip.movedim(1, -1) + 1) / 2)[:, None]  # [T, 1, H, W]
    scale = min(1.0, LONGEST_SIDE / max(grey.shape[-2:]))
    grey = resize(grey, tuple(max(16, round(side * scale)) for side in grey.shape[-2:]))
    earlier, later = grey[first], grey[first + 1]
    flow = dense_flow(earlier, later, fit_similarity(earlier, later))
    return 100.0 * fps * float(flow.norm(dim=1).mean()) / math.hypot(*grey.shape[-2:])


def speed_of_camera(poses: Poses, size: tuple[int, int], window: tuple[int, int, int, int], fps: float) -> float:
    """Return the speed in per cent of the diagonal per second inside a `window` of pictures warped to `poses`.

    size: (height, width) of the pictures; window: (top, left, height, width). Known from the homographies alone.
    """
    top, left, height, width = window
    y, x = torch.meshgrid(
        torch.linspace(top, top + height - 1, 9, dtype=torch.float64),
        torch.linspace(left, left + width - 1, 9, dtype=torch.float64),
        indexing="ij",
    )
    points = torch.stack([x.flatten(), y.flatten(), torch.ones(81, dtype=torch.float64)])  # [3, 81]
    matrices = poses.homographies(size[1], size[0])
    steps = matrices[1:] @ torch.linalg.inv(matrices[:-1]) @ points  # [T - 1, 3, 81]
    moved = steps[:, :2] / steps[:, 2:] - points[:2]
    return 100.0 * fps * float(moved.norm(dim=1).mean()) / math.hypot(height, width)
