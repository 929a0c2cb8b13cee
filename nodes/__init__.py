"""The pack's nodes. One file per stage; only host/comfy.py knows ComfyUI."""

from .animate import SVDReelAnimate
from .brush import SVDReelCutAndDrag, SVDReelMotionMask
from .camera import SVDReelCameraControl, SVDReelCameraPath
from .condition import SVDReelCondition, SVDReelMotion
from .decode import SVDReelDecode
from .duration import SVDReelDuration
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
from .plan import SVDReelPlan
from .report import SVDReelReport
from .reuse import SVDReelReuseFeatures
from .sample import SVDReelSampler
from .schedule import SVDReelSchedule
from .steady import SVDReelColorMatch, SVDReelSteady
from .storyboard import SVDReelStoryboard
from .training import SVDReelSaveLora, SVDReelTrainLora
from .training_set import SVDReelTrainingSet

# Literal, because the pack managers read it without importing the pack.
NODE_CLASS_MAPPINGS = {
    "SVDReelLoadModel": SVDReelLoadModel,
    "SVDReelAnimate": SVDReelAnimate,
    "SVDReelMotion": SVDReelMotion,
    "SVDReelCondition": SVDReelCondition,
    "SVDReelGuidance": SVDReelGuidance,
    "SVDReelSchedule": SVDReelSchedule,
    "SVDReelSampler": SVDReelSampler,
    "SVDReelDecode": SVDReelDecode,
    "SVDReelExportModel": SVDReelExportModel,
    "SVDReelReport": SVDReelReport,
    "SVDReelPlan": SVDReelPlan,
    "SVDReelSweep": SVDReelSweep,
    "SVDReelStoryboard": SVDReelStoryboard,
    "SVDReelCameraPath": SVDReelCameraPath,
    "SVDReelCameraControl": SVDReelCameraControl,
    "SVDReelInbetween": SVDReelInbetween,
    "SVDReelLoop": SVDReelLoop,
    "SVDReelWindows": SVDReelWindows,
    "SVDReelExtend": SVDReelExtend,
    "SVDReelMotionAmount": SVDReelMotionAmount,
    "SVDReelMotionMask": SVDReelMotionMask,
    "SVDReelCutAndDrag": SVDReelCutAndDrag,
    "SVDReelSteady": SVDReelSteady,
    "SVDReelColorMatch": SVDReelColorMatch,
    "SVDReelReuseFeatures": SVDReelReuseFeatures,
    "SVDReelFinish": SVDReelFinish,
    "SVDReelDuration": SVDReelDuration,
    "SVDReelModelInfo": SVDReelModelInfo,
    "SVDReelLoadLora": SVDReelLoadLora,
    "SVDReelTrainingSet": SVDReelTrainingSet,
    "SVDReelTrainLora": SVDReelTrainLora,
    "SVDReelSaveLora": SVDReelSaveLora,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "SVDReelLoadModel": "Load SVD Model",
    "SVDReelAnimate": "Animate Image (SVD)",
    "SVDReelMotion": "Set Motion (SVD)",
    "SVDReelCondition": "Prepare Image for SVD",
    "SVDReelGuidance": "Shape Guidance over Frames (SVD)",
    "SVDReelSchedule": "Make Noise Schedule (SVD)",
    "SVDReelSampler": "Sample SVD Clip",
    "SVDReelDecode": "Decode SVD Clip",
    "SVDReelExportModel": "Export SVD to ComfyUI Model",
    "SVDReelReport": "Measure Clip (SVD)",
    "SVDReelPlan": "Plan Memory and Time (SVD)",
    "SVDReelSweep": "Motion Lab (SVD)",
    "SVDReelStoryboard": "Film a Storyboard (SVD)",
    "SVDReelCameraPath": "Camera Path (SVD)",
    "SVDReelCameraControl": "Control Camera (SVD)",
    "SVDReelInbetween": "Sample between Images (SVD)",
    "SVDReelLoop": "Sample Seamless Loop (SVD)",
    "SVDReelWindows": "Denoise in Windows (SVD)",
    "SVDReelExtend": "Extend SVD Clip",
    "SVDReelMotionAmount": "Control Amount of Motion (SVD)",
    "SVDReelMotionMask": "Paint Motion Mask (SVD)",
    "SVDReelCutAndDrag": "Cut and Drag (SVD)",
    "SVDReelSteady": "Keep Clip Steady (SVD)",
    "SVDReelColorMatch": "Match Clip Colours (SVD)",
    "SVDReelReuseFeatures": "Reuse Features (SVD)",
    "SVDReelFinish": "Finish Film (SVD)",
    "SVDReelDuration": "Plan Duration (SVD)",
    "SVDReelModelInfo": "Inspect and Convert Model (SVD)",
    "SVDReelLoadLora": "Load SVD LoRA",
    "SVDReelTrainingSet": "Set up Training Clips (SVD)",
    "SVDReelTrainLora": "Train SVD LoRA",
    "SVDReelSaveLora": "Save SVD LoRA",
}

register_model_folder("svd")
