"""Options of `animate` for camera weights: MotionCtrl-SVD and CameraCtrl-SVD."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoints.camera_weights import load_camera_weights
from ..checkpoints.load import read_state_dict
from ..controls.adapters import AdapterControl
from ..controls.camera.moves import parse_path
from ..controls.camera.pose_files import MOST_TEXT, cropped_intrinsics, parse_poses
from ..controls.camera.weights import CameraRows, LoadedCameraWeights, camera_weights_adapter
from ..model.model import SVDModel
from ..pipelines.settings import AnimateSettings


def add_camera_weights(group: argparse._ArgumentGroup) -> None:
    """Add the options for camera weights."""
    group.add_argument(
        "--camera-weights",
        metavar="FILE",
        help="MotionCtrl-SVD or CameraCtrl-SVD weights (.safetensors, see convert): the model itself follows --camera "
        "or --camera-poses, and nothing is warped. --camera-strength 1 is as trained",
    )
    group.add_argument(
        "--camera-poses",
        metavar="FILE",
        help="camera poses for --camera-weights instead of --camera: a RealEstate10K text or a JSON list of MotionCtrl",
    )
    group.add_argument(
        "--camera-speed",
        type=float,
        metavar="N",
        help="how far the camera travels with --camera-weights, 0 to 8; raise it if the motion is weak (default: 1)",
    )


@dataclass(frozen=True)
class CameraWeightsOptions:
    """The camera weights that the options name, and the poses of their file."""

    file: str
    rows: CameraRows | None
    speed: float

    def load(self, model: SVDModel) -> LoadedCameraWeights:
        """Return the weights on the model's device."""
        return load_camera_weights(self.file, model.config.unet, device=model.device, dtype=model.dtype)

    def control(
        self, weights: LoadedCameraWeights, settings: AnimateSettings
    ) -> tuple[AnimateSettings, AdapterControl]:
        """Return the settings without their camera path, and the control that follows it instead."""
        size = (settings.width, settings.height)
        camera = parse_path(settings.camera) if self.rows is None else cropped_intrinsics(self.rows, *size)
        adapter = camera_weights_adapter(
            weights, camera, settings.frames, *size, strength=settings.camera_strength,
            speed=self.speed,
        )  # fmt: skip
        return replace(settings, camera=""), AdapterControl(adapter, enabled=settings.camera_strength > 0)

    @property
    def metadata(self) -> dict[str, object]:
        """Entries for the clip's metadata."""
        return {"camera_weights": Path(self.file).name, "camera_speed": self.speed}


def camera_weights_of(options: argparse.Namespace) -> CameraWeightsOptions | None:
    """Return what the options say about camera weights, checked before a model is loaded; None without them."""
    if options.camera_weights is None:
        return None
    if bool(options.camera) == bool(options.camera_poses):
        raise ValueError("--camera-weights needs --camera PATH or --camera-poses FILE; give exactly one of the two")
    for name in ("windows", "extend", "loop", "end_image", "depth", "foreground"):
        if getattr(options, name, None):
            raise ValueError(f"--camera-weights and --{name.replace('_', '-')} cannot be combined; leave one out")
    read_state_dict(options.camera_weights)  # a wrong file is an error before the model is loaded
    speed = 1.0 if options.camera_speed is None else options.camera_speed
    rows = None
    if options.camera_poses:
        rows = parse_poses(Path(options.camera_poses).read_text(encoding="utf-8", errors="replace")[: MOST_TEXT + 1])
    return CameraWeightsOptions(options.camera_weights, rows, speed)
