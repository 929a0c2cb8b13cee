"""Nodes of camera weights: load MotionCtrl-SVD or CameraCtrl-SVD, and move the camera of a clip with them."""

from ..svd_core.checkpoints.camera_weights import load_camera_weights
from ..svd_core.controls.adapters import AdapterControl
from ..svd_core.controls.camera.path import CameraPath
from ..svd_core.controls.camera.pose_files import cropped_intrinsics, parse_poses
from ..svd_core.controls.camera.weights import LoadedCameraWeights, camera_weights_adapter
from .host import comfy as host
from .shared import inputs
from .shared.adapter_files import adapter_names, adapter_path, stamp
from .shared.clips import check_samples, clip_length
from .shared.controls import ControlChain
from .shared.model import LoadedModel

CATEGORY = f"{inputs.CATEGORY}/Control"


class SVDReelLoadCameraWeights:
    """Load an adapter that lets the model follow a camera."""

    DISPLAY_NAME = "Load Camera Weights (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads MotionCtrl-SVD (for svd) or CameraCtrl-SVD (for svd or svd_xt), small networks that make the model "
        "itself follow a camera. Both are published as pickles: convert them once with python -m svd_core convert."
    )
    SEARCH_ALIASES = ["MotionCtrl", "CameraCtrl", "camera adapter", "camera motion", "Load Motionctrl Checkpoint"]
    RETURN_TYPES = ("SVD_CAMERA_WEIGHTS",)
    RETURN_NAMES = ("camera_weights",)
    OUTPUT_TOOLTIPS = ("The camera weights, for Follow Camera with Weights.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The base model: svd, or svd_xt for CameraCtrl_svdxt."),
                "file": inputs.choice(
                    adapter_names(),
                    "A .safetensors file in models/svd or models/controlnet: a MotionCtrl adapter, a whole MotionCtrl "
                    "model, or CameraCtrl weights.",
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str, **others) -> str:
        """Return the file's modification time and size, so that a replaced file is loaded again."""
        return stamp(file)

    def execute(self, model: LoadedModel, file: str) -> tuple:
        path = adapter_path(file, "camera weights")
        # The layers take their weights to the device of their input, so nothing needs to be placed.
        ops = host.casting_ops()
        return (load_camera_weights(path, model.config.unet, dtype=model.compute_dtype, ops=ops),)


class SVDReelCameraWeights:
    """Move the camera of a clip by weights that were trained for it."""

    DISPLAY_NAME = "Follow Camera with Weights (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes the model follow a camera path, or the poses of a RealEstate10K or MotionCtrl file, with MotionCtrl or "
        "CameraCtrl weights. Unlike Control Camera it warps nothing: the model moves the camera itself, with parallax. "
        "The content may still move while the camera stands."
    )
    SEARCH_ALIASES = ["MotionCtrl", "CameraCtrl", "RealEstate10K", "camera poses", "camera motion"]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("The control, for Sample SVD Clip or the next control node.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "camera_weights": inputs.socket("SVD_CAMERA_WEIGHTS", "The weights from Load Camera Weights."),
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, which sets size and length of the clip."
                ),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    2.0,
                    "How much the camera counts. 1 is as trained, 0 is off and leaves the clip unchanged. Lower it to "
                    "0.8 if the picture breaks.",
                    step=0.05,
                ),
                "speed": inputs.decimal(
                    1.0,
                    0.0,
                    8.0,
                    "How far the camera travels: 1 is the length of the path, 2 twice as far. Raise it if the motion "
                    "is weak, lower it if the picture breaks. Turns are not changed.",
                    step=0.1,
                ),
            },
            "optional": {
                "camera": inputs.socket(
                    "SVD_CAMERA", "How the camera moves, from Camera Path. MotionCtrl takes no zoom; use dolly."
                ),
                "poses": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "Camera poses instead of a path: the text of a MotionCtrl JSON file (a list of 12 "
                        "numbers per frame) or of a RealEstate10K file. A longer list is used from its middle.",
                    },
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "start": inputs.decimal(
                    0.0, 0.0, 1.0, "Share of the sampling at which the camera begins to count.", step=0.05,
                    advanced=True,
                ),
                "end": inputs.decimal(
                    1.0, 0.0, 1.0,
                    "Share of the sampling at which the camera stops counting. 0.6 frees the details.",
                    step=0.05, advanced=True,
                ),
            },
        }  # fmt: skip

    def execute(
        self,
        camera_weights: LoadedCameraWeights,
        latent: dict,
        strength: float,
        speed: float,
        camera: CameraPath | None = None,
        poses: str = "",
        control: ControlChain | None = None,
        start: float = 0.0,
        end: float = 1.0,
    ) -> tuple:
        height, width = (8 * side for side in check_samples(latent).shape[-2:])
        if (camera is None) == (not poses.strip()):
            raise ValueError("connect a camera path, or paste camera poses; exactly one of the two")
        moves = camera if camera is not None else cropped_intrinsics(parse_poses(poses), width, height)
        adapter = camera_weights_adapter(
            camera_weights, moves, clip_length(latent), width, height, strength=strength, speed=speed
        )
        made = AdapterControl(adapter, start, end, enabled=strength > 0)
        return ((control or ControlChain()).then([made]),)


NODES = [SVDReelLoadCameraWeights, SVDReelCameraWeights]
