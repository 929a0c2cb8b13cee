"""Nodes that let pose drawings drive a person: load a pose network, and control a clip with it."""

from torch import Tensor

from ..svd_core.checkpoints.pose_network import load_pose_network
from ..svd_core.controls.poses import LoadedPoseNetwork
from ..svd_core.pipelines.character import CharacterSettings, character_controls, check_poses, fitted_drawings
from .guidance import GuidanceCurve
from .host import comfy as host
from .shared import inputs
from .shared.adapter_files import adapter_names, adapter_path, stamp
from .shared.clips import check_samples, clip_length
from .shared.controls import ControlChain
from .shared.model import LoadedModel

CATEGORY = f"{inputs.CATEGORY}/Control"


class SVDReelLoadPoseNetwork:
    """Load the pose network of MimicMotion or ControlNeXt-SVD."""

    DISPLAY_NAME = "Load Pose Network (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the small network that reads pose drawings: MimicMotion's or ControlNeXt-SVD v2's. It belongs to the "
        "fine-tuned UNet it was published with, which Load SVD Model loads (complete_from: svd_xt_1_1)."
    )
    SEARCH_ALIASES = ["MimicMotion", "ControlNeXt", "pose net", "dance", "character animation", "DWPose"]
    RETURN_TYPES = ("SVD_POSE_NETWORK",)
    RETURN_NAMES = ("pose_network",)
    OUTPUT_TOOLTIPS = ("The pose network, for Follow Poses.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": inputs.choice(
                    adapter_names(),
                    "A .safetensors file in models/svd or models/controlnet: mimic_motion_pose_net, a whole "
                    "MimicMotion file, or controlnext-svd_v2-controlnet.",
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str) -> str:
        """Return the file's modification time and size, so that a replaced file is loaded again."""
        return stamp(file)

    def execute(self, file: str) -> tuple:
        path = adapter_path(file, "pose network")
        # The layers take their weights to the device of their input, so nothing needs to be placed.
        return (load_pose_network(path, ops=host.casting_ops()),)


class SVDReelPoses:
    """Let pose drawings drive the person of a clip."""

    DISPLAY_NAME = "Follow Poses (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes the person in the start image do what a series of pose drawings shows, with MimicMotion or "
        "ControlNeXt-SVD. The first drawing is the pose of the start image itself; its frame is dropped from the clip. "
        "Clips longer than a window are denoised in windows that all begin with that first frame."
    )
    SEARCH_ALIASES = ["MimicMotion", "ControlNeXt", "dance", "pose control", "OpenPose", "DWPose", "character"]
    RETURN_TYPES = ("SVD_CONTROL", "SVD_GUIDANCE")
    RETURN_NAMES = ("control", "guidance")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The constant guidance that the authors use (2 for MimicMotion, 3 for ControlNeXt), for Sample SVD Clip.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The fine-tuned UNet that belongs to the pose network."),
                "pose_network": inputs.socket("SVD_POSE_NETWORK", "The network from Load Pose Network."),
                "poses": inputs.socket(
                    "IMAGE",
                    "One drawing per frame: skeletons on black from DWPose or another pose detector, the pose of the "
                    "start image first.",
                ),
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, with as many frames as there are drawings."
                ),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    2.0,
                    "How strictly the person follows the drawings. 1 is as trained, 0 is off. ControlNeXt bears 1.5.",
                    step=0.05,
                ),
                "window": inputs.whole(
                    0,
                    0,
                    512,
                    "Frames denoised at once. 0 is the network's own: 16 for MimicMotion, 24 for ControlNeXt. Use 72 "
                    "for MimicMotion 1.1; it needs three times the memory.",
                ),
                "overlap": inputs.whole(
                    6, 0, 256, "Frames that neighbouring windows share. 6 is usual, 4 is faster, more is smoother."
                ),
            },
            "optional": {
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How the drawings fill the clip. Use the same value as in Prepare Image for SVD.",
                    advanced=True,
                ),
                "start": inputs.decimal(
                    0.0, 0.0, 1.0, "Share of the sampling at which the poses begin to act.", step=0.05, advanced=True
                ),
                "end": inputs.decimal(
                    1.0, 0.0, 1.0, "Share of the sampling at which the poses stop acting. 0.8 frees the details.",
                    step=0.05, advanced=True,
                ),
                "keep_first": inputs.switch(
                    False,
                    "Keep the first frame, which shows the start image's own pose and is not part of the motion.",
                    advanced=True,
                ),
            },
        }  # fmt: skip

    def execute(
        self,
        model: LoadedModel,
        pose_network: LoadedPoseNetwork,
        poses: Tensor,
        latent: dict,
        strength: float,
        window: int,
        overlap: int,
        control: ControlChain | None = None,
        fit: str = "crop",
        start: float = 0.0,
        end: float = 1.0,
        keep_first: bool = False,
    ) -> tuple:
        height, width = (8 * side for side in check_samples(latent).shape[-2:])
        frames = clip_length(latent)
        if len(poses) != frames:
            raise ValueError(
                f"there are {len(poses)} pose drawings for {frames} frames; set frames of Prepare Image for SVD to "
                f"{len(poses)}"
            )
        settings = CharacterSettings(
            width=width,
            height=height,
            window=window or None,
            overlap=overlap,
            strength=strength,
            start=start,
            end=end,
            fit=fit,
            keep_first=keep_first,
        ).resolve(pose_network.kind)
        drawings = fitted_drawings(poses, settings)
        check_poses(pose_network, drawings, model.config.unet)
        host.check_interrupt()
        chain = control or ControlChain()
        for made in character_controls(pose_network, drawings.to(model.device), settings):
            chain = chain.then([made])
        return (chain, GuidanceCurve("constant", settings.guidance, settings.guidance))


NODES = [SVDReelLoadPoseNetwork, SVDReelPoses]
