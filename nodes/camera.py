"""Nodes that move the camera: a camera path, and the control that imposes it on a clip."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..svd_core.controls.camera.control import WarpedSignal, camera_control, mode_settings
from ..svd_core.controls.camera.depth import FAR_TO_NEAR
from ..svd_core.controls.camera.moves import MOVES, camera_move, move_names, parse_path
from ..svd_core.controls.camera.path import EASINGS, CameraPath, Chain, Hold
from ..svd_core.controls.refine import MOST_ROUNDS
from ..svd_core.controls.signal import SIGNAL_MODES
from ..svd_core.pipelines.settings import STEERED_BUCKET
from ..svd_core.pipelines.steering import camera_signals
from ..svd_core.sampling.schedules import SIGMA_MAX
from .host import comfy as host
from .host.preview import send_picture
from .shared import inputs
from .shared.clips import start_pictures
from .shared.controls import ControlChain
from .shared.model import LoadedModel
from .shared.previews import draw_path

CATEGORY = f"{inputs.CATEGORY}/Control"
JOINS = ("then", "and")
USUAL = ", ".join(f"{name} {kind.usual:g}" for name, kind in MOVES.items() if kind.usual)


class SVDReelCameraPath:
    """Describe a camera path."""

    DISPLAY_NAME = "Camera Path (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Describes how the camera moves over the clip, for Control Camera. Chain several of these nodes, or write "
        "the whole path in words. The content moves opposite to the camera: pan right moves the content left."
    )
    SEARCH_ALIASES = [
        "camera motion",
        "camera control",
        "pan",
        "tilt",
        "zoom",
        "roll",
        "dolly",
        "truck",
        "orbit",
        "MotionCtrl",
        "CameraCtrl",
        "CamTrol",
    ]
    RETURN_TYPES = ("SVD_CAMERA", "IMAGE")
    RETURN_NAMES = ("camera", "preview")
    OUTPUT_TOOLTIPS = (
        "The path, for Control Camera or another Camera Path.",
        "The path as a drawing: what each frame shows of the image, and four of the frames.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "move": inputs.choice(
                    move_names(),
                    "The camera move. pan, tilt, roll and zoom turn the camera on the spot and are exact for any "
                    "image. dolly, truck, pedestal, orbit and arc travel, and need a depth map to look right.",
                    default="pan right",
                ),
                "amount": inputs.decimal(
                    0.0,
                    0.0,
                    180.0,
                    f"How far the camera moves. 0 uses the usual amount: {USUAL}. pan and tilt are in image widths, "
                    "zoom is a factor, roll, orbit and arc are in degrees, the others in shares of the depth at "
                    "the centre. Larger amounts show more that the model must invent.",
                    step=0.05,
                ),
                "easing": inputs.choice(
                    EASINGS,
                    "Speed over time. linear is even, ease is slow at both ends, ease-in is slow at the start, "
                    "ease-out is slow at the end.",
                ),
                "hold_start": inputs.whole(
                    0, 0, 1000, "Number of frames in which the camera stands still before the move."
                ),
                "hold_end": inputs.whole(
                    0, 0, 1000, "Number of frames in which the camera stands still after the move."
                ),
                "path": inputs.text(
                    "",
                    'A whole path in words, which replaces the widgets above: "pan right 0.15, zoom in 1.2 ease '
                    'then hold 4 then tilt up 10deg for 2". A comma joins moves at the same time. "through 0 0; '
                    '0.1 0 at 40%; 0.2 0.1" looks at points in turn. Drawing on the picture below writes it.',
                ),
            },
            "optional": {
                "camera": inputs.socket("SVD_CAMERA", "Another camera path to which this one is added."),
                "join": inputs.choice(
                    JOINS,
                    "How this path is added to the connected one. then runs it afterwards, in its share of the clip; "
                    "and runs both at the same time over the whole clip.",
                ),
                "image": inputs.socket("IMAGE", "An image for the preview. Without it, the preview shows a pattern."),
            },
        }

    def execute(
        self,
        move: str,
        amount: float,
        easing: str,
        hold_start: int,
        hold_end: int,
        path: str,
        camera: CameraPath | None = None,
        join: str = "then",
        image: Tensor | None = None,
    ) -> tuple:
        if image is not None:
            send_picture(image)
        if path.strip():
            own = parse_path(path)
        else:
            own = camera_move(move, amount or None, easing=easing)
            holds = [Hold(frames, f"hold {frames}") if frames else None for frames in (hold_start, hold_end)]
            if any(holds):
                own = CameraPath(Chain(tuple(part for part in (holds[0], own.part, holds[1]) if part is not None)))
        if camera is not None:
            own = camera.then(own) if join == "then" else camera.also(own)
        return (own, draw_path(own, image))


class SVDReelCameraControl:
    """Impose a camera path on a clip."""

    DISPLAY_NAME = "Control Camera (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes the camera of a clip follow a path, with the usual weights. The image is warped along the path, and "
        "the sampler starts from the warped frames or is guided towards them. Strength 1 follows the path with every "
        "model."
    )
    SEARCH_ALIASES = ["camera control", "CamTrol", "Time-to-Move", "TTM", "NVS-Solver", "ViewExtrapolator", "2.5D"]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE", "MASK")
    RETURN_NAMES = ("control", "warped", "holes")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The warped frames that are imposed, with filled holes.",
        "The parts of the warped frames that the image does not show; there the model is free.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket("IMAGE", "The start image, the same that Prepare Image for SVD receives."),
                "camera": inputs.socket("SVD_CAMERA", "How the camera moves, from Camera Path."),
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, which sets size and length of the clip."
                ),
                "mode": inputs.choice(
                    SIGNAL_MODES,
                    "How the path is imposed. partial re-noise starts from the warped frames: fastest, for pan, "
                    "tilt, zoom and roll. dual clock also writes them back for some steps and leaves filled holes "
                    "free. replace estimate works from full noise with the strictest geometry, for orbit and dolly "
                    "with a depth map.",
                ),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    3.0,
                    "How closely the clip follows the path. 0 is off, 1 follows it, 2 is almost a slide show of the "
                    "warped image. Lower it to 0.7 if things look cut out.",
                    step=0.05,
                ),
            },
            "optional": {
                "depth": inputs.socket(
                    "IMAGE",
                    "Depth map of the image from any depth node, near is bright. Only moves that travel use it.",
                ),
                "depth_mask": inputs.socket("MASK", "The depth map as a mask, instead of depth."),
                "foreground": inputs.socket(
                    "MASK",
                    "Mask of the main object, which then moves as one piece. Without a depth map, it stands on a "
                    "plain in front of a far background.",
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How the image fills the clip. Use the same value as in Prepare Image for SVD.",
                    advanced=True,
                ),
                "far_to_near": inputs.decimal(
                    FAR_TO_NEAR,
                    1.1,
                    100.0,
                    "How many times farther away the farthest point is than the nearest, 2 to 10. Raise it to move "
                    "near things more against far ones.",
                    advanced=True,
                ),
                "sigma": inputs.decimal(
                    0.0,
                    0.0,
                    SIGMA_MAX,
                    "Noise level of SVD at 1024x576 down to which the path is imposed at strength 1; it is scaled to "
                    "other sizes and models. 0 uses the mode's own (30, 31, 8). Lower values are stricter.",
                    advanced=True,
                ),
                "repeats": inputs.whole(
                    1,
                    1,
                    10,
                    "Evaluations of each guided step, for replace estimate only. 3 hides seams between the image and "
                    "what the model invents; the guided steps then take three times as long.",
                    advanced=True,
                ),
                "keep": inputs.decimal(
                    1.0,
                    0.05,
                    1.0,
                    "Share of the image that is imposed, best-fitting parts first, for replace estimate only. Lower "
                    "it to 0.8 to leave out places where the depth map is wrong.",
                    step=0.05,
                    advanced=True,
                ),
                "last_weight": inputs.decimal(
                    1.0,
                    0.05,
                    1.0,
                    "Weight of the path in the last frame, for replace estimate only; it falls evenly over the clip. "
                    "Lower it to 0.6 to free late frames, where the warp is worst.",
                    step=0.05,
                    advanced=True,
                ),
                "vae": inputs.VAE,
                "background": inputs.BEHIND,
                "motion_bucket_id": inputs.STEERED_MOTION_BUCKET,
                "refine": inputs.whole(
                    0,
                    0,
                    MOST_ROUNDS,
                    "Rounds in which the model draws what comes into view again in the middle steps, for replace "
                    "estimate only. 2 make holes and seams cleaner and take up to twice as long. 0 is off.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        camera: CameraPath,
        latent: dict,
        mode: str,
        strength: float,
        depth: Tensor | None = None,
        depth_mask: Tensor | None = None,
        foreground: Tensor | None = None,
        control: ControlChain | None = None,
        fit: str = "crop",
        far_to_near: float = FAR_TO_NEAR,
        sigma: float = 0.0,
        repeats: int = 1,
        keep: float = 1.0,
        last_weight: float = 1.0,
        vae=None,
        background: str = "white",
        motion_bucket_id: int = STEERED_BUCKET,
        refine: int = 0,
    ) -> tuple:
        if depth is not None and depth_mask is not None:
            raise ValueError("depth and depth_mask are both connected; disconnect one of them")
        pictures, size, frames, _ = start_pictures(image, latent, fit, background)
        signals = camera_signals(
            model.with_parts(vae=vae),
            pictures,
            camera,
            frames,
            depth=depth if depth is not None else depth_mask,
            foreground=foreground,
            size=size,
            fit_mode=fit,
            far_to_near=far_to_near,
            on_frame=host.Progress().decoded,
        )
        settings = mode_settings(mode, sigma, repeats, keep, last_weight, refine)
        controls = [camera_control(made.signal, mode, strength=strength, **settings) for made in signals]
        chain = (control or ControlChain()).imposing(controls, motion_bucket_id)
        return (chain, *warped_images(signals))


def warped_images(signals: Sequence[WarpedSignal]) -> tuple[Tensor, Tensor]:
    """Return what the signals of all clips show, and where it has holes: IMAGE [B * T, H, W, 3], MASK [B * T, H, W]."""
    frames = torch.cat([made.warped.frames for made in signals])  # [B * T, 3, H, W]
    holes = 1 - torch.cat([made.warped.valid for made in signals])[:, 0]
    shown = ((frames + 1) / 2).clamp(0, 1).movedim(1, -1)
    return shown.to(host.output_device()), holes.to(host.output_device())


NODES = [SVDReelCameraPath, SVDReelCameraControl]
