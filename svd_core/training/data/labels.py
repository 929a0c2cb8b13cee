"""The motion bucket of a training clip, from its measured speed.

What SVD's motion buckets measure is not published, so the rule is our own. Let m be the mean length of the optical
flow in % of the picture's diagonal per second; the bucket is 255 m / (m + 5). It is 0 for a still and 127 for 5 % per
second, about 8 pixels per frame at 1024x576 and 7 frames per second.
"""

import math

import torch
from torch import Tensor

from ...controls.camera.poses import Poses
from ...flow.dense import dense_flow
from ...flow.planes import luminance, resize
from ...flow.shared import fit_similarity

MIDDLE = 5.0  # % of the diagonal per second at bucket 127.5
LONGEST_SIDE = 160  # pixels of the frames that flow is measured on; a label needs no more precision
MOST_PAIRS = 6


def bucket_of(speed: float) -> float:
    """Return the motion bucket 0..255 of a speed in % of the diagonal per second."""
    return 255.0 * speed / (speed + MIDDLE)


def speed_of(bucket: float) -> float:
    """Return the speed in % of the diagonal per second of a motion bucket below 255."""
    if not 0 <= bucket < 255:
        raise ValueError(f"motion bucket {bucket:g} has no finite speed; use 0 to 254")
    return MIDDLE * bucket / (255.0 - bucket)


@torch.no_grad()
def measured_speed(clip: Tensor, fps: float) -> float:
    """Return the speed of a clip [T, 3, H, W] in -1..1 at `fps`, in % of the diagonal per second.

    It is the mean over up to six pairs of neighbouring frames, spread over the clip.
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
    """Return the speed, in % of the diagonal per second, inside a `window` of pictures warped to `poses`.

    It follows from the homographies. size: (height, width) of the pictures; window: (top, left, height, width).
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
