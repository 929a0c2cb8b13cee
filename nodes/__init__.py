"""The pack's nodes, one file per group; only `host/comfy.py` imports ComfyUI.

Written by `python -m tools.nodes`.
"""

from .animate import SVDReelAnimate
from .between_weights import SVDReelLoadBetweenWeights
from .brush import SVDReelCutAndDrag, SVDReelMotionMask
from .camera import SVDReelCameraControl, SVDReelCameraPath
from .camera_weights import SVDReelCameraWeights, SVDReelLoadCameraWeights
from .character import SVDReelLoadPoseNetwork, SVDReelPoses
from .compare import SVDReelCompare
from .condition import SVDReelCondition, SVDReelMotion
from .controlnet import SVDReelControlNet, SVDReelLineArt, SVDReelLoadControlNet
from .decode import SVDReelDecode
from .doctor import SVDReelDoctor
from .driving_clip import SVDReelControlByClip
from .duration import SVDReelDuration
from .edit_clip import SVDReelEditClip
from .export import SVDReelExportModel
from .finish import SVDReelFinish
from .guidance import SVDReelGuidance
from .host.comfy import register_model_folder
from .inbetween import SVDReelInbetween, SVDReelLoop
from .lab import SVDReelSweep
from .load import SVDReelLoadModel
from .longer import SVDReelExtend, SVDReelWindows
from .lora import SVDReelLoadLora
from .model_info import SVDReelModelInfo
from .motion_amount import SVDReelMotionAmount
from .orbit import SVDReelOrbit, SVDReelPrepareObject
from .plan import SVDReelPlan
from .report import SVDReelReport
from .reuse import SVDReelReuseFeatures
from .sample import SVDReelSampler
from .sample_picture import SVDReelSamplePicture
from .schedule import SVDReelSchedule
from .shared.sockets import check_inputs
from .steady import SVDReelColorMatch, SVDReelSteady
from .storyboard import SVDReelStoryboard
from .training import SVDReelSaveLora, SVDReelTrainLora
from .training_set import SVDReelTrainingSet
from .video_depth import SVDReelVideoDepth

# Literal, because pack managers read both without importing the pack.
NODE_CLASS_MAPPINGS = {
    "SVDReelAnimate": SVDReelAnimate,
    "SVDReelLoadBetweenWeights": SVDReelLoadBetweenWeights,
    "SVDReelMotionMask": SVDReelMotionMask,
    "SVDReelCutAndDrag": SVDReelCutAndDrag,
    "SVDReelCameraPath": SVDReelCameraPath,
    "SVDReelCameraControl": SVDReelCameraControl,
    "SVDReelLoadCameraWeights": SVDReelLoadCameraWeights,
    "SVDReelCameraWeights": SVDReelCameraWeights,
    "SVDReelLoadPoseNetwork": SVDReelLoadPoseNetwork,
    "SVDReelPoses": SVDReelPoses,
    "SVDReelCompare": SVDReelCompare,
    "SVDReelMotion": SVDReelMotion,
    "SVDReelCondition": SVDReelCondition,
    "SVDReelLoadControlNet": SVDReelLoadControlNet,
    "SVDReelControlNet": SVDReelControlNet,
    "SVDReelLineArt": SVDReelLineArt,
    "SVDReelDecode": SVDReelDecode,
    "SVDReelDoctor": SVDReelDoctor,
    "SVDReelControlByClip": SVDReelControlByClip,
    "SVDReelDuration": SVDReelDuration,
    "SVDReelEditClip": SVDReelEditClip,
    "SVDReelExportModel": SVDReelExportModel,
    "SVDReelFinish": SVDReelFinish,
    "SVDReelGuidance": SVDReelGuidance,
    "SVDReelInbetween": SVDReelInbetween,
    "SVDReelLoop": SVDReelLoop,
    "SVDReelSweep": SVDReelSweep,
    "SVDReelLoadModel": SVDReelLoadModel,
    "SVDReelWindows": SVDReelWindows,
    "SVDReelExtend": SVDReelExtend,
    "SVDReelLoadLora": SVDReelLoadLora,
    "SVDReelModelInfo": SVDReelModelInfo,
    "SVDReelMotionAmount": SVDReelMotionAmount,
    "SVDReelPrepareObject": SVDReelPrepareObject,
    "SVDReelOrbit": SVDReelOrbit,
    "SVDReelPlan": SVDReelPlan,
    "SVDReelReport": SVDReelReport,
    "SVDReelReuseFeatures": SVDReelReuseFeatures,
    "SVDReelSampler": SVDReelSampler,
    "SVDReelSamplePicture": SVDReelSamplePicture,
    "SVDReelSchedule": SVDReelSchedule,
    "SVDReelSteady": SVDReelSteady,
    "SVDReelColorMatch": SVDReelColorMatch,
    "SVDReelStoryboard": SVDReelStoryboard,
    "SVDReelTrainLora": SVDReelTrainLora,
    "SVDReelSaveLora": SVDReelSaveLora,
    "SVDReelTrainingSet": SVDReelTrainingSet,
    "SVDReelVideoDepth": SVDReelVideoDepth,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "SVDReelAnimate": "Animate Image (SVD)",
    "SVDReelLoadBetweenWeights": "Load In-between Weights (SVD)",
    "SVDReelMotionMask": "Paint Motion Mask (SVD)",
    "SVDReelCutAndDrag": "Cut and Drag (SVD)",
    "SVDReelCameraPath": "Camera Path (SVD)",
    "SVDReelCameraControl": "Control Camera (SVD)",
    "SVDReelLoadCameraWeights": "Load Camera Weights (SVD)",
    "SVDReelCameraWeights": "Follow Camera with Weights (SVD)",
    "SVDReelLoadPoseNetwork": "Load Pose Network (SVD)",
    "SVDReelPoses": "Follow Poses (SVD)",
    "SVDReelCompare": "Compare Clips (SVD)",
    "SVDReelMotion": "Set Motion (SVD)",
    "SVDReelCondition": "Prepare Image for SVD",
    "SVDReelLoadControlNet": "Load SVD ControlNet",
    "SVDReelControlNet": "Control by ControlNet (SVD)",
    "SVDReelLineArt": "Draw Lines of Frames (SVD)",
    "SVDReelDecode": "Decode SVD Clip",
    "SVDReelDoctor": "Check My Setup (SVD)",
    "SVDReelControlByClip": "Control by Clip (SVD)",
    "SVDReelDuration": "Plan Duration (SVD)",
    "SVDReelEditClip": "Edit Clip (SVD)",
    "SVDReelExportModel": "Export SVD to ComfyUI Model",
    "SVDReelFinish": "Finish Film (SVD)",
    "SVDReelGuidance": "Shape Guidance over Frames (SVD)",
    "SVDReelInbetween": "Sample between Images (SVD)",
    "SVDReelLoop": "Sample Seamless Loop (SVD)",
    "SVDReelSweep": "Motion Lab (SVD)",
    "SVDReelLoadModel": "Load SVD Model",
    "SVDReelWindows": "Denoise in Windows (SVD)",
    "SVDReelExtend": "Extend SVD Clip",
    "SVDReelLoadLora": "Load SVD LoRA",
    "SVDReelModelInfo": "Inspect and Convert Model (SVD)",
    "SVDReelMotionAmount": "Control Amount of Motion (SVD)",
    "SVDReelPrepareObject": "Prepare Object for SV3D",
    "SVDReelOrbit": "Orbit Object (SV3D)",
    "SVDReelPlan": "Plan Memory and Time (SVD)",
    "SVDReelReport": "Measure Clip (SVD)",
    "SVDReelReuseFeatures": "Reuse Features (SVD)",
    "SVDReelSampler": "Sample SVD Clip",
    "SVDReelSamplePicture": "Sample Picture (SVD)",
    "SVDReelSchedule": "Make Noise Schedule (SVD)",
    "SVDReelSteady": "Keep Clip Steady (SVD)",
    "SVDReelColorMatch": "Match Clip Colours (SVD)",
    "SVDReelStoryboard": "Film a Storyboard (SVD)",
    "SVDReelTrainLora": "Train SVD LoRA",
    "SVDReelSaveLora": "Save SVD LoRA",
    "SVDReelTrainingSet": "Set up Training Clips (SVD)",
    "SVDReelVideoDepth": "Video to Depth or Normals (SVD)",
}

for _node in NODE_CLASS_MAPPINGS.values():
    check_inputs(_node)
for _name in ("svd", "diffusers", "clip_vision"):
    register_model_folder(_name)
