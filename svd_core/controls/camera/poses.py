"""Position and direction of the camera in every frame, and what they do to a flat picture.

Axes: x right, y down, z into the picture. In frame 0 the camera is at the origin and looks along z. The unit of length
is the depth of the centre of the scene, so a camera that has moved by 1 along z is where the centre was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FOCAL = 1.0  # focal length in picture widths: 53 degrees across, a usual wide lens

PARAMETERS = ("pan", "tilt", "roll", "zoom", "x", "y", "z", "orbit_x", "orbit_y", "arc_x", "arc_y")
"""Columns of the table of a path. Angles in radians: pan to the right, tilt up, roll clockwise, orbit and arc to the
right and up. Zoom is the logarithm of the factor. x, y, z move the camera right, up and forward.
"""


@dataclass(frozen=True, eq=False)
class Poses:
    """Camera poses: a point X in the space of frame 0 is at rotation @ X + translation in that of frame t.

    rotation: [T, 3, 3]. translation: [T, 3]. zoom: [T], multiplies the focal length. All float64.
    """

    rotation: Tensor
    translation: Tensor
    zoom: Tensor

    def __len__(self) -> int:
        return len(self.zoom)

    def at(self, frames: Sequence[int]) -> "Poses":
        """Return the poses of the given frames."""
        return Poses(self.rotation[frames], self.translation[frames], self.zoom[frames])

    @property
    def travels(self) -> bool:
        """Whether the camera changes its position, so that near and far things move differently."""
        return bool(self.translation.abs().max() > 1e-9)

    def homographies(self, width: int, height: int) -> Tensor:
        """Return [T, 3, 3] that map pixels of the picture to pixels of each frame; pixel centres are integers.

        Exact for rotation and zoom. For a camera that changes its position the picture is a flat board at depth 1, so a
        dolly equals a zoom.
        """
        board = self.translation[:, :, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)  # [T, 3, 3]
        inverse = torch.linalg.inv(intrinsics(width, height))
        moved = intrinsics(width, height, self.zoom) @ (self.rotation + board) @ inverse
        return moved / moved[:, 2:, 2:]

    def views(self, width: int, height: int) -> Tensor:
        """Return which part of a flat picture each frame shows: right, up, zoom and roll, [T, 4], float64.

        right, up: the point in the middle of the frame, in picture widths from the middle of the picture. zoom (a
        factor) and roll (of the camera, degrees clockwise): those of the similarities closest to the motion from frame
        to frame, because these are what a report measures.
        """
        planes = self.homographies(width, height)
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=torch.float64)
        middle = torch.linalg.inv(planes) @ centre  # [T, 3]
        middle = middle[:, :2] / middle[:, 2:] - centre[:2]
        y, x = torch.meshgrid(*(torch.linspace(0, side - 1, 5).double() for side in (height, width)), indexing="ij")
        here = torch.stack([x.flatten(), y.flatten(), torch.ones(25, dtype=torch.float64)])  # [3, 25]
        there = planes[1:] @ torch.linalg.inv(planes[:-1]) @ here  # [T - 1, 3, 25]
        before = torch.complex(here[0], here[1])
        after = torch.complex(there[:, 0] / there[:, 2], there[:, 1] / there[:, 2])  # [T - 1, 25]
        spread = before - before.mean()
        steps = (spread.conj() * after).sum(1) / spread.abs().pow(2).sum()  # [T - 1], complex factors
        start = torch.zeros(1, dtype=torch.float64)
        zoom = torch.cat([start, steps.abs().log().cumsum(0)]).exp()
        roll = torch.cat([start, -torch.rad2deg(steps.angle()).cumsum(0)])
        return torch.stack([middle[:, 0] / width, -middle[:, 1] / width, zoom, roll], dim=1)


def intrinsics(width: int, height: int, zoom: Tensor | float = 1.0) -> Tensor:
    """Return the camera matrix from space to pixels, centred in the picture: [3, 3], or [T, 3, 3] for [T] zooms."""
    zoom = torch.as_tensor(zoom, dtype=torch.float64)
    matrix = torch.zeros(*zoom.shape, 3, 3, dtype=torch.float64)
    matrix[..., 0, 0] = matrix[..., 1, 1] = FOCAL * width * zoom
    matrix[..., 0, 2], matrix[..., 1, 2], matrix[..., 2, 2] = (width - 1) / 2, (height - 1) / 2, 1.0
    return matrix


def poses_of(table: Tensor) -> Poses:
    """Return the poses of a table [T, len(PARAMETERS)] of path parameters.

    Orbit and arc are applied first and carry the camera around the centre of the scene. Then x, y and z move it along
    its own axes, and pan, tilt and roll turn it on the spot. Raises ValueError if the camera comes too close to the
    centre.
    """
    p = dict(zip(PARAMETERS, table.to(torch.float64).unbind(1), strict=True))
    around, over = p["orbit_x"] + p["arc_x"], p["orbit_y"] + p["arc_y"]
    outward = _turn(-around, -over)[:, 2]  # the direction from the camera to the centre, [T, 3]
    # An arc turns the camera half as far as an orbit, so that the view sweeps past the centre.
    carried = _turn(-(p["orbit_x"] + p["arc_x"] / 2), -(p["orbit_y"] + p["arc_y"] / 2))
    step = torch.stack([p["x"], -p["y"], p["z"]], dim=1)  # [T, 3]
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    place = ahead - outward + (step[:, None] @ carried)[:, 0]
    near = (place - ahead).norm(dim=1)
    if bool((near < 0.1).any()):
        raise ValueError(
            f"the camera must stay 0.1 of the depth away from the centre (got {float(near.min()):.2f}); use smaller "
            "amounts, or zoom in instead of dolly in"
        )
    rotation = _roll(p["roll"]) @ _turn(p["pan"], p["tilt"]) @ carried
    return Poses(rotation, -(rotation @ place[:, :, None])[:, :, 0], p["zoom"].exp())


def _turn(pan: Tensor, tilt: Tensor) -> Tensor:
    """Return rotations [T, 3, 3] of the world for a camera that pans right about the vertical, then tilts up."""
    zero, one = torch.zeros_like(pan), torch.ones_like(pan)
    across = _matrix([pan.cos(), zero, -pan.sin(), zero, one, zero, pan.sin(), zero, pan.cos()])
    along = _matrix([one, zero, zero, zero, tilt.cos(), tilt.sin(), zero, -tilt.sin(), tilt.cos()])
    return along @ across


def _roll(angle: Tensor) -> Tensor:
    """Return rotations [T, 3, 3] of the world for a camera that rolls clockwise; the picture turns the other way."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return _matrix([angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero, zero, zero, one])


def _matrix(entries: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(entries), dim=1).reshape(-1, 3, 3)


def angle_of(widths: float) -> float:
    """Return the angle in radians that moves the middle of the picture by `widths` picture widths."""
    return math.atan(widths / FOCAL)
