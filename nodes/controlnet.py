"""The nodes of SVD ControlNets: load one, steer a clip with it, and draw the lines that a line-art one takes."""

import torch
from torch import Tensor

from ..svd_core.checkpoints.controlnet import NANO, LoadedControlNet
from ..svd_core.controls.controlnet import NUMBERS, SUMS
from ..svd_core.controls.lines import line_drawing
from ..svd_core.files import printable
from ..svd_core.pictures import check_image
from ..svd_core.pipelines.controlled import control_by_pictures
from ..svd_core.pipelines.settings import AnimateSettings
from .host import comfy as host
from .host.build import manage_controlnet
from .shared import inputs
from .shared.clips import check_samples, clip_length
from .shared.controls import ControlChain
from .shared.model import LoadedModel

FOLDER = "controlnet"
EMBEDDED = "nano line art (embedded)"
LIKELY = ("svd", "temporal")


def controlnet_names() -> list[str]:
    """Return the choices of the loader: files of the host's folder, those that look like SVD's first; nano's last."""
    names = [name for name in host.model_files(FOLDER) if name.lower().endswith(".safetensors")]
    names.sort(key=lambda name: not any(word in name.lower() for word in LIKELY))
    return [*names, EMBEDDED]


def _location(name: str) -> str | None:
    """Return the path of a choice of the loader, None where there is no such file."""
    return str(NANO) if name == EMBEDDED else host.model_path(FOLDER, name)


class SVDReelLoadControlNet:
    """Load a ControlNet for SVD."""

    DISPLAY_NAME = "Load SVD ControlNet"
    CATEGORY = inputs.CATEGORY + "/Control"
    DESCRIPTION = (
        "Loads an SVD ControlNet, such as temporal-controlnet-depth-svd-v1 or -lineart-svd-v1, from "
        "models/controlnet. ControlNets for images do not fit; the node says which kind a file is."
    )
    SEARCH_ALIASES = [
        "controlnet loader",
        "svd controlnet",
        "depth",
        "lineart",
        "temporal-controlnet",
        "ControlNetLoader",
    ]
    RETURN_TYPES = ("SVD_CONTROLNET",)
    RETURN_NAMES = ("control_net",)
    OUTPUT_TOOLTIPS = ("The ControlNet, for Control by ControlNet.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "control_net_name": inputs.choice(
                    controlnet_names(),
                    "The file to load, from models/controlnet. Both published ones are called "
                    "diffusion_pytorch_model.safetensors; rename them, such as to svd_depth.safetensors. The embedded "
                    "one steers only the embedded nano model, for trying out without a download.",
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, control_net_name: str | None) -> bool | str:
        """Return a remedy for a missing file; ComfyUI's own check would only list the existing ones."""
        if control_net_name is None or _location(control_net_name) is not None:
            return True
        return _missing(control_net_name)

    def execute(self, control_net_name: str) -> tuple:
        path = _location(control_net_name)
        if path is None:
            raise FileNotFoundError(_missing(control_net_name))
        return (manage_controlnet(path),)


class SVDReelControlNet:
    """Steer a clip by control pictures."""

    DISPLAY_NAME = "Control by ControlNet (SVD)"
    CATEGORY = inputs.CATEGORY + "/Control"
    DESCRIPTION = (
        "Makes a clip follow depth maps or line drawings, one per frame, through an SVD ControlNet. The result goes "
        "into control of Sample SVD Clip. A step takes about 1.5 times as long."
    )
    SEARCH_ALIASES = ["apply controlnet", "depth control", "lineart control", "ControlNetApplyAdvanced", "control net"]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE")
    RETURN_NAMES = ("control", "pictures")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The control pictures as the ControlNet sees them, fitted to the clip.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "control_net": inputs.socket("SVD_CONTROLNET", "The ControlNet from Load SVD ControlNet."),
                "images": inputs.socket(
                    "IMAGE",
                    "Control pictures, one per frame: depth maps with near parts bright, or white lines on black. The "
                    "last is repeated if there are too few; a single one serves all frames.",
                ),
                "latent": inputs.socket("LATENT", "The latent of the clip, from Prepare Image for SVD."),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    10.0,
                    "How strictly the clip follows, 0.5 to 1.2. 1 is what the ControlNet was trained with; 0 switches "
                    "it off.",
                    step=0.05,
                ),
                "start": inputs.decimal(
                    0.0, 0.0, 1.0, "Share of the sampling at which the control begins. 0 is the first step.", step=0.05
                ),
                "end": inputs.decimal(
                    1.0,
                    0.0,
                    1.0,
                    "Share of the sampling at which the control ends. 0.6 fixes layout and motion and leaves the "
                    "details to the model.",
                    step=0.05,
                ),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How control pictures of another aspect ratio fill the clip. Use the value of Prepare Image for "
                    "SVD, so that both stay aligned.",
                ),
            },
            "optional": {
                "control": inputs.socket("SVD_CONTROL", "Controls that are applied before this one."),
                "mask": inputs.socket("MASK", "Where the control acts: white follows it, black is free."),
                "strength_curve": inputs.text(
                    "",
                    "Strengths over the frames, such as 1, 1, 0: evenly spread and multiplied with strength. Empty is "
                    "the same for all frames.",
                    advanced=True,
                ),
                "sums": inputs.choice(
                    SUMS,
                    "How residuals are summed. as trained counts those of fine levels up to four times, as the "
                    "published ControlNets expect. once is how ComfyUI-Advanced-ControlNet adds them.",
                    advanced=True,
                ),
                "numbers": inputs.choice(
                    NUMBERS,
                    "Motion numbers that the ControlNet gets. auto follows the file: official for the published ones, "
                    "which is 6 fps, bucket 128 and 0.02 whatever the clip has. Try the others if the control is weak.",
                    advanced=True,
                ),
                "unconditional": inputs.switch(
                    True,
                    "Control both passes of guidance, as in training. Off controls the conditional pass only, which "
                    "guidance then exaggerates, and saves a quarter of the time.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        control_net: LoadedControlNet,
        images: Tensor,
        latent: dict,
        strength: float,
        start: float,
        end: float,
        fit: str,
        control: ControlChain | None = None,
        mask: Tensor | None = None,
        strength_curve: str = "",
        sums: str = SUMS[0],
        numbers: str = NUMBERS[0],
        unconditional: bool = True,
    ) -> tuple:
        frames, samples = clip_length(latent), check_samples(latent)
        height, width = (8 * side for side in samples.shape[-2:])
        settings = AnimateSettings(width=width, height=height, frames=frames, fit=fit).resolve(model.config)
        points = inputs.parse_numbers(strength_curve, "strength_curve") if strength_curve.strip() else (1.0,)
        made = control_by_pictures(
            control_net.network,
            check_image(images)[..., :3],
            settings,
            model.config.unet,
            strength=[strength * point for point in points],
            mask=mask,
            start=start,
            end=end,
            sums=sums,
            numbers=control_net.numbers if numbers == NUMBERS[0] else numbers,
            both=unconditional,
        )
        shown = (made.adapter.pictures.movedim(1, -1) + 1) / 2
        return ((control or ControlChain()).then([made]), shown.clamp(0, 1).to(host.output_device()))


class SVDReelLineArt:
    """Draw the lines of frames."""

    DISPLAY_NAME = "Draw Lines of Frames (SVD)"
    CATEGORY = inputs.CATEGORY + "/Control"
    DESCRIPTION = (
        "Draws the lines of frames, white on black, for a line-art ControlNet. All frames share one scale, so the "
        "lines do not flicker."
    )
    SEARCH_ALIASES = ["lineart", "line art", "edges", "canny", "sketch", "preprocessor"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("lines",)
    OUTPUT_TOOLTIPS = ("White lines on black, for images of Control by ControlNet.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": inputs.socket("IMAGE", "Frames of a video or a rendered preview, or a single picture."),
                "detail": inputs.decimal(
                    1.0, 0.1, 10.0, "Above 1 draws faint edges too, below 1 only strong ones; 0.5 to 2.", step=0.1
                ),
            },
        }

    def execute(self, images: Tensor, detail: float) -> tuple:
        with torch.no_grad():
            return (line_drawing(check_image(images), detail=detail).to(host.output_device()),)


def _missing(name: str) -> str:
    return (
        f"ControlNet {printable(name)!r} not found; put temporal-controlnet-depth-svd-v1 or -lineart-svd-v1 "
        "(diffusion_pytorch_model.safetensors, renamed) into models/controlnet and press R"
    )


NODES = [SVDReelLoadControlNet, SVDReelControlNet, SVDReelLineArt]
