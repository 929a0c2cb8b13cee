"""Camera adapters: MotionCtrl-SVD and CameraCtrl-SVD, driven by the pack's camera paths or by files of poses.

Both take world-to-camera poses, which are those of `Poses`. An adapter keeps one row per frame and makes it relative to
the first row of what it is asked for, so that windows and reversed clips stay right.
"""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...condition import Adapter, PassInputs
from ...networks.cameractrl import CameraCtrl, RayFeatures
from ...networks.motionctrl import CameraProjection, MotionCtrl
from ..strength import check_strength
from .path import CameraPath
from .poses import FOCAL, Poses

log = logging.getLogger("svd_reel")

AXES = (3.0, 1.0, 4.0)
"""Factors of MotionCtrl's own command line on the translation right, down and forward, before its speed."""

DEMO_TRAVEL = 1.5
"""Length of a basic move of the demo of MotionCtrl at speed 1, in units of AXES."""

USUAL_TRAVEL = (0.15, 0.1, 0.2)
"""Our usual truck, pedestal and dolly, in depths of the scene's centre; they equal the demo's basic moves."""

REALESTATE_GAIN = 5.0
"""Units of RealEstate10K, in which CameraCtrl was trained, in one depth of the scene's centre: a usual dolly is 1."""

MOTIONCTRL_FRAMES = 14  # that it was trained on

KEPT_FEATURES = 4  # feature sets of CameraCtrl that are kept: one per window of a clip


@dataclass(frozen=True, eq=False)
class CameraRows:
    """Poses of a clip as adapters take them: world-to-camera rows and the focal length.

    poses: [T, 12], rotation and translation row by row ([R|t], 3x4). intrinsics: [T, 4], fx, fy, cx, cy in parts of
    the picture's sides.
    """

    poses: Tensor
    intrinsics: Tensor

    def __len__(self) -> int:
        return len(self.poses)


@dataclass(frozen=True)
class LoadedCameraWeights:
    """A camera adapter ready to run, its kind (motionctrl or cameractrl), and the name of its file for messages."""

    network: MotionCtrl | CameraCtrl
    kind: str
    name: str


def camera_weights_adapter(
    weights: LoadedCameraWeights,
    camera: CameraPath | CameraRows,
    frames: int,
    width: int,
    height: int,
    *,
    strength: float = 1.0,
    speed: float = 1.0,
) -> Adapter:
    """Return the adapter of a clip of `frames` frames at width x height pixels, for a path or the poses of a file.

    speed: factor on how far the camera travels, 0 to 8. Raises ValueError for a zoom that MotionCtrl cannot make, for
    too few poses, and for more frames than CameraCtrl takes.
    """
    check_strength(strength)
    check_speed(speed)
    if isinstance(camera, CameraPath):
        poses = camera.poses(frames)
        if weights.kind == "motionctrl":
            return MotionCtrlAdapter(weights.network, _path_rows(poses, frames, speed), strength)
        return CameraCtrlAdapter.of(weights.network, rows_of(poses, width, height, REALESTATE_GAIN * speed), strength)
    rows = middle_rows(camera, frames)
    if weights.kind == "motionctrl":
        _warn_length(frames)
        return MotionCtrlAdapter(weights.network, scaled_rows(rows.poses, speed), strength)
    rotation, translation = _split(rows.poses)
    moved = torch.cat([rotation, speed * translation[:, :, None]], dim=2).flatten(1)
    return CameraCtrlAdapter.of(weights.network, CameraRows(moved, rows.intrinsics), strength)


def check_speed(speed: float) -> None:
    """Raise ValueError for a factor on the camera's travel that is out of range."""
    if not (math.isfinite(speed) and 0 <= speed <= 100):
        raise ValueError(f"the speed of the camera must be 0 to 100 (got {speed:g}); use 1 to 3")


def _path_rows(poses: Poses, frames: int, speed: float) -> Tensor:
    """Return MotionCtrl's rows of one of our paths: usual moves are as long as the basic moves of its demo."""
    if bool((poses.zoom - 1).abs().max() > 1e-6):
        raise ValueError("MotionCtrl does not support zoom; use dolly in or dolly out, or CameraCtrl weights")
    _warn_length(frames)
    gains = torch.tensor([DEMO_TRAVEL / usual for usual in USUAL_TRAVEL], dtype=torch.float64)
    rows = torch.cat([poses.rotation, (gains * poses.translation)[:, :, None]], dim=2).flatten(1)
    return scaled_rows(rows, speed).float()


def _warn_length(frames: int) -> None:
    if frames > MOTIONCTRL_FRAMES:
        log.warning("MotionCtrl was trained on 14 frames with svd; %d frames may ignore the camera", frames)


def middle_rows(rows: CameraRows, frames: int) -> CameraRows:
    """Return as many poses as the clip has frames: the middle ones of a longer list, as MotionCtrl takes them."""
    if len(rows) < frames:
        raise ValueError(f"the file has {len(rows)} camera poses for {frames} frames; use a clip of {len(rows)} frames")
    part = slice((len(rows) - frames) // 2, (len(rows) - frames) // 2 + frames)
    return CameraRows(rows.poses[part], rows.intrinsics[part])


def rows_of(poses: Poses, width: int, height: int, gain: float = 1.0) -> CameraRows:
    """Return the rows of a camera path for pictures of width x height pixels; gain multiplies the translation."""
    matrix = torch.cat([poses.rotation, gain * poses.translation[:, :, None]], dim=2)  # [T, 3, 4]
    focal = FOCAL * poses.zoom
    centre = torch.full_like(focal, 0.5)
    intrinsics = torch.stack([focal, focal * width / height, centre, centre], dim=1)
    return CameraRows(matrix.flatten(1).float(), intrinsics.float())


def relative_rows(poses: Tensor) -> Tensor:
    """Return poses [T, 12] relative to the first: R_t R_0^T and t_t - R_t R_0^T t_0."""
    rotation, translation = _split(poses.double())
    turned = rotation @ rotation[0].T
    moved = translation - turned @ translation[0]
    return torch.cat([turned, moved[:, :, None]], dim=2).flatten(1).to(poses.dtype)


def scaled_rows(poses: Tensor, speed: float = 1.0) -> Tensor:
    """Return poses [T, 12] with MotionCtrl's factors times `speed` on the translation; not yet relative."""
    rotation, translation = _split(poses)
    moved = translation * (torch.tensor(AXES, dtype=poses.dtype, device=poses.device) * speed)
    return torch.cat([rotation, moved[:, :, None]], dim=2).flatten(1)


def camera_to_world(poses: Tensor) -> Tensor:
    """Return the poses of the cameras [T, 4, 4] in the space of the first camera: w2c_0 @ inverse(w2c_t)."""
    rotation, translation = _split(relative_rows(poses).double())
    made = torch.eye(4, dtype=torch.float64).repeat(len(poses), 1, 1)
    made[:, :3, :3] = rotation.transpose(1, 2)
    made[:, :3, 3] = -(rotation.transpose(1, 2) @ translation[:, :, None])[:, :, 0]
    return made.to(poses.dtype)


def camera_rays(cameras: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Return the ray of every pixel in Pluecker coordinates: [T, 6, height, width], moment o x d, then direction d.

    cameras: camera-to-world [T, 4, 4]. intrinsics: [T, 4] in parts of the sides. Directions have length 1.
    """
    fx, fy, cx, cy = (value[:, None, None] for value in (intrinsics * _sides(intrinsics, width, height)).T)
    x = (torch.arange(width, dtype=intrinsics.dtype) + 0.5 - cx) / fx  # [T, 1, W]
    y = (torch.arange(height, dtype=intrinsics.dtype)[:, None] + 0.5 - cy) / fy  # [T, H, 1]
    shape = (len(cameras), height, width)
    rays = torch.stack([x.expand(shape), y.expand(shape), torch.ones(shape, dtype=x.dtype)], dim=-1)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    directions = torch.einsum("tij,thwj->thwi", cameras[:, :3, :3].to(rays), rays)
    origins = cameras[:, None, None, :3, 3].to(rays).expand_as(directions)
    return torch.cat([torch.linalg.cross(origins, directions), directions], dim=-1).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, eq=False)
class MotionCtrlAdapter(Adapter):
    """MotionCtrl with the poses of a clip [T, 12], scaled (`scaled_rows`) but not made relative."""

    network: MotionCtrl = field()
    poses: Tensor
    strength: float = 1.0

    @property
    def rows(self) -> int:
        """The number of frames."""
        return len(self.poses)

    def with_parts(self, change: Any) -> "MotionCtrlAdapter":
        """Return this adapter with `change` applied to the poses."""
        return replace(self, poses=change(self.poses))

    def hooks(self, inputs: PassInputs) -> CameraProjection:
        """Return the hooks of a pass; conditional and unconditional pass have the same."""
        return CameraProjection(self.network, relative_rows(self.poses), self.strength)


@dataclass(frozen=True, eq=False)
class CameraCtrlAdapter(Adapter):
    """CameraCtrl with the cameras of a clip: [T, 16], the intrinsics in parts of the sides, then the pose."""

    network: CameraCtrl = field()
    cameras: Tensor
    strength: float = 1.0
    _features: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, network: CameraCtrl, rows: CameraRows, strength: float = 1.0) -> "CameraCtrlAdapter":
        """Return the adapter for the rows of a clip; raises ValueError for more frames than it was trained on."""
        most = network.pose_encoder.frames
        if len(rows) > most:
            raise ValueError(
                f"these CameraCtrl weights take up to {most} frames (got {len(rows)}); use {most} frames, or "
                f"{'CameraCtrl_svdxt with svd_xt' if most < 25 else 'windows of 25 frames'}"
            )
        return cls(network, torch.cat([rows.intrinsics, rows.poses], dim=1), strength)

    @property
    def rows(self) -> int:
        """The number of frames."""
        return len(self.cameras)

    def with_parts(self, change: Any) -> "CameraCtrlAdapter":
        """Return this adapter with `change` applied to the cameras; features made before are shared."""
        return replace(self, cameras=change(self.cameras))

    def rays(self, width: int, height: int) -> Tensor:
        """Return the rays [T, 6, height, width] of these cameras."""
        cameras = self.cameras.cpu()
        return camera_rays(camera_to_world(cameras[:, 4:]), cameras[:, :4], width, height)

    def hooks(self, inputs: PassInputs) -> RayFeatures:
        """Return the hooks of a pass; conditional and unconditional pass have the same."""
        height, width = (8 * side for side in inputs.x.shape[-2:])
        # Only the dtype follows the weights: a host's layers bring theirs to the device of the rays.
        place = {"device": inputs.x.device, "dtype": self.network.pose_encoder.encoder_conv_in.weight.dtype}
        key = (width, height, *place.values(), self.cameras.cpu().numpy().tobytes())
        if key not in self._features:
            while len(self._features) >= KEPT_FEATURES:
                self._features.pop(next(iter(self._features)))
            self._features[key] = self.network.pose_encoder(self.rays(width, height).to(**place))
        return RayFeatures(self.network, self._features[key], self.strength)


def _split(poses: Tensor) -> tuple[Tensor, Tensor]:
    """Return rotation [T, 3, 3] and translation [T, 3] of rows [T, 12]."""
    matrix = poses.unflatten(1, (3, 4))
    return matrix[:, :, :3], matrix[:, :, 3]


def _sides(like: Tensor, width: int, height: int) -> Tensor:
    return torch.tensor([width, height, width, height], dtype=like.dtype)
