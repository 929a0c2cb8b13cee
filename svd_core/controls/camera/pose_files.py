"""Camera poses from files: RealEstate10K text, and the JSON lists that MotionCtrl's examples use."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...files import JsonError, parse_json, printable
from .weights import CameraRows

MOST_TEXT = 1_000_000  # characters
MOST_POSES = 10_000
NUMBERS = 12
PICTURE_RATIO = 1280 / 720  # of RealEstate10K, whose intrinsics are in parts of its sides
ROTATION_ERROR = 0.05  # largest deviation of R R^T from the identity


def parse_poses(text: str) -> CameraRows:
    """Return the poses of a JSON list of 12 numbers per frame, or of a RealEstate10K text.

    JSON has no focal length: that of a usual RealEstate10K film, half the width, is used. Raises ValueError, one
    sentence, for other text.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"the camera poses have {len(text):,} characters; at most {MOST_TEXT:,} are read")
    return parse_json_poses(text) if text.lstrip().startswith("[") else parse_realestate(text)


def parse_json_poses(text: str) -> CameraRows:
    """Return the poses of a JSON list with 12 numbers per frame: [R|t] row by row, world to camera."""
    try:
        rows = parse_json(text.encode(), most_bytes=4 * MOST_TEXT)
    except (JsonError, ValueError) as error:
        raise ValueError(
            f"the camera poses are not JSON ({printable(error, 100)}); paste a list like [[1,0,0,0,...]]"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("the camera poses must be a list with 12 numbers per frame; paste a file of MotionCtrl's")
    poses = _checked([_numbers(row, number, NUMBERS) for number, row in enumerate(rows, 1)])
    return CameraRows(poses, torch.tensor([[0.5, 0.5 * PICTURE_RATIO, 0.5, 0.5]]).repeat(len(poses), 1))


def parse_realestate(text: str) -> CameraRows:
    """Return the poses of a RealEstate10K text: a title, then per frame time, fx fy cx cy, 0 0, and 12 numbers."""
    lines = [line.split() for line in text.strip().splitlines()[1:] if line.strip()]
    rows = [_numbers(line, number, 19) for number, line in enumerate(lines, 2)]
    poses = _checked([row[7:] for row in rows])
    intrinsics = torch.tensor([row[1:5] for row in rows])
    if bool((intrinsics[:, :2] <= 0).any()):
        raise ValueError("the focal lengths of the camera poses must be above 0; use a RealEstate10K file")
    return CameraRows(poses, intrinsics)


def cropped_intrinsics(rows: CameraRows, width: int, height: int) -> CameraRows:
    """Return rows whose intrinsics, of a 16:9 picture, fit its crop to width x height pixels."""
    fx, fy, cx, cy = rows.intrinsics.T
    if width / height < PICTURE_RATIO:
        fx = fx * (height * PICTURE_RATIO) / width
    else:
        fy = fy * (width / PICTURE_RATIO) / height
    return CameraRows(rows.poses, torch.stack([fx, fy, cx, cy], dim=1))


def _numbers(row: Sequence, number: int, count: int) -> list[float]:
    try:
        values = [float(value) for value in row]
    except (TypeError, ValueError):
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"camera pose {number} must be {count} finite numbers (got {printable(row, 60)})")
    return values


def _checked(rows: list[list[float]]) -> Tensor:
    if not 1 <= len(rows) <= MOST_POSES:
        raise ValueError(f"there are {len(rows)} camera poses; give one per frame, 1 to {MOST_POSES:,}")
    poses = torch.tensor(rows)
    rotation = poses.unflatten(1, (3, 4))[:, :, :3].double()
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=torch.float64)).abs().amax(dim=(1, 2))
    worst = int(error.argmax())
    if error[worst] > ROTATION_ERROR:
        raise ValueError(
            f"camera pose {worst + 1} is not a rotation: its rows must be perpendicular and of length 1; the 12 "
            "numbers are [R|t] row by row, world to camera"
        )
    return poses
