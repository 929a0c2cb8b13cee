"""Nodes that take a painted mask: the motion brush, and cut and drag."""

import torch
from torch import Tensor

from ..svd_core.controls.brush import HOLD
from ..svd_core.controls.camera.control import camera_control, fit_map, mode_settings
from ..svd_core.controls.camera.path import EASINGS, CameraPath
from ..svd_core.controls.drag import BACKGROUND, parse_drags, points_text
from ..svd_core.controls.mask import FEATHER, fit_masks
from ..svd_core.pictures.strokes import paint_objects
from ..svd_core.pipelines.settings import STEERED_BUCKET
from ..svd_core.pipelines.steering import drag_signals, motion_brushes, picture_depth
from ..svd_core.sampling.schedules import SIGMA_MAX
from .camera import warped_images
from .host import comfy as host
from .host.preview import send_picture
from .shared import inputs
from .shared.clips import start_pictures
from .shared.controls import ControlChain
from .shared.model import LoadedModel
from .shared.previews import draw_drags

CATEGORY = f"{inputs.CATEGORY}/Control"
OFF = -1
START_IMAGE = inputs.socket("IMAGE", "The start image, the same that Prepare Image for SVD receives.")
CLIP = inputs.socket("LATENT", "The latent from Prepare Image for SVD, which sets size and length of the clip.")
ANOTHER = inputs.socket("SVD_CONTROL", "Another control, which is applied before this one.")
FIT = inputs.choice(
    inputs.FIT_MODES,
    "How the image fills the clip. Use the same value as in Prepare Image for SVD.",
    advanced=True,
)


class SVDReelMotionMask:
    """Restrict motion to a painted area."""

    DISPLAY_NAME = "Paint Motion Mask (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "A motion brush: paint what should move on the picture in the node, and everything else stands still, with "
        "the usual weights and no extra time. Shades of grey move a little. Still pixels of the finished frames are "
        "those of your image."
    )
    SEARCH_ALIASES = [
        "motion brush",
        "motion mask",
        "freeze region",
        "cinemagraph",
        "regional motion",
        "inpaint motion",
    ]
    RETURN_TYPES = ("SVD_CONTROL", "MASK")
    RETURN_NAMES = ("control", "motion")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The mask as it is used, at the size of the clip and with its feather: white moves.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": START_IMAGE,
            },
            "optional": {
                "mask": inputs.socket(
                    "MASK",
                    "What moves: white (1) moves, black (0) stands still. Connect one mask for all, one per image, "
                    "or one per frame of the clip. A mask of another size is resized. It replaces the painted one.",
                ),
                "latent": CLIP,
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    1.0,
                    "How long still parts are held while the clip forms. 0 is off, 1 is usual. Lower it if still "
                    "parts look cut out.",
                    step=0.05,
                ),
                "still_bucket": inputs.whole(
                    OFF,
                    OFF,
                    inputs.MAX_BUCKET,
                    "Motion bucket of still parts. -1 uses the clip's own. 1 to 60 also calms what moves, because "
                    "the model processes the image as a whole.",
                    advanced=True,
                ),
                "moving_bucket": inputs.whole(
                    OFF,
                    OFF,
                    inputs.MAX_BUCKET,
                    "Motion bucket of moving parts. -1 uses the clip's own. Use 150 to 255 for more motion.",
                ),
                "keep_still": inputs.switch(
                    True,
                    "Decode SVD Clip pastes your image over the still parts, so they match it exactly. "
                    "Switch it off to see what the model made of them: slightly softer and not quite still.",
                ),
                "invert": inputs.switch(False, "Inverts the mask: white stands still, black moves."),
                "feather": inputs.decimal(
                    FEATHER,
                    0.0,
                    25.0,
                    "Width of the soft edge inside moving parts, in per cent of the image's side, usually 2 to 5. "
                    "More hides edges and lets less move.",
                    step=0.5,
                    advanced=True,
                ),
                "sigma": inputs.decimal(
                    HOLD,
                    0.01,
                    SIGMA_MAX,
                    "Noise level at 1024x576 down to which still parts are held. 0.01 holds them to the end. Raise "
                    "it to 3 or 10 to let light and texture change in them.",
                    advanced=True,
                ),
                "control": ANOTHER,
                "fit": FIT,
                "vae": inputs.VAE,
                "background": inputs.BEHIND,
                "painted": inputs.text(
                    "",
                    "The mask painted on the picture below, as strokes: brush 0.05: 0.3,0.4 0.5,0.4; box: 0.1,0.1 "
                    "0.4,0.5. Used where no mask is connected.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        mask: Tensor | None = None,
        latent: dict | None = None,
        strength: float = 1.0,
        still_bucket: int = OFF,
        moving_bucket: int = OFF,
        keep_still: bool = True,
        invert: bool = False,
        feather: float = FEATHER,
        sigma: float = HOLD,
        control: ControlChain | None = None,
        fit: str = "crop",
        vae=None,
        background: str = "white",
        painted: str = "",
    ) -> tuple:
        latent = connected(latent)
        send_picture(image)
        if mask is None:
            masks = paint_objects(painted, image)
            if masks is None:
                raise ValueError("nothing is painted; paint what moves on the picture of the node, or connect a mask")
            mask = masks.amax(0, keepdim=True)
        model = model.with_parts(vae=vae)
        pictures, size, frames, clips = start_pictures(image, latent, fit, background)
        masks = fit_masks(1 - mask if invert else mask, size, pictures.shape[3], pictures.shape[2], fit)
        rows = divide_masks(masks, clips, frames)
        buckets = {"still_bucket": still_bucket, "moving_bucket": moving_bucket}
        settings = {name: None if value == OFF else float(value) for name, value in buckets.items()}
        settings |= {"strength": strength, "sigma": sigma, "feather": feather, "keep_still": keep_still}
        made = motion_brushes(model, pictures, rows, **settings)
        shown = torch.cat([brush.motion for brush in made])[:, 0]  # [n, h, w]
        shown = shown.repeat_interleave(8, 1).repeat_interleave(8, 2)
        return ((control or ControlChain()).then(made), shown.to(host.output_device()))


class SVDReelCutAndDrag:
    """Drag an object along a path."""

    DISPLAY_NAME = "Cut and Drag (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Cuts out what you paint on the picture, drags it along a drawn path over a filled background, and lets the "
        "model turn it into real motion, with the usual weights and in less time. Strength 1 follows the path with "
        "every model. Connect a camera to film the moving objects."
    )
    SEARCH_ALIASES = ["cut and drag", "drag", "trajectory", "Time-to-Move", "TTM", "DragNUWA", "DragAnything", "MOFA"]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE", "IMAGE", "MASK")
    RETURN_NAMES = ("control", "preview", "pasted", "holes")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The image with the objects and their paths drawn in.",
        "The pasted frames that are imposed, with filled holes.",
        "The areas that the objects uncover; there the model is free.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": START_IMAGE,
            },
            "optional": {
                "mask": inputs.socket(
                    "MASK",
                    "White covers the object to drag. A batch of masks drags several objects, later ones in front. It "
                    "replaces the painted objects.",
                ),
                "latent": CLIP,
                "path": inputs.text(
                    "0.5,0.5; 0.7,0.5",
                    "The path as points x,y in shares of the image's width and height, 0,0 at the top left: where "
                    "the object is; where it goes; and so on. A | starts the path of the next object. Drawing on the "
                    'picture below writes it. Lists of points such as [{"x": 10, "y": 20}] are read as well, also in '
                    "pixels of the image.",
                ),
                "easing": inputs.choice(
                    EASINGS,
                    "Speed over time. linear is even, ease is slow at both ends, ease-in is slow at the start, "
                    "ease-out is slow at the end.",
                ),
                "scale": inputs.text(
                    "", "Sizes that the object reaches in turn, starting at 1: 1.3 grows; 1.2, 1 grows and returns."
                ),
                "rotation": inputs.text(
                    "",
                    "Angles that the object reaches in turn, in degrees clockwise, starting at 0: 15 turns it; "
                    "10, -10 makes it sway.",
                ),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    3.0,
                    "How closely the object follows the path. 0 is off, 1 follows it, 2 is almost a cut-out.",
                    step=0.05,
                ),
                "hold_background": inputs.decimal(
                    BACKGROUND,
                    0.0,
                    1.0,
                    "How firmly the rest of the image is held, 0 to 1. 0 lets it move, but may double the object; 1 "
                    "holds it as long as the object. With a camera, the rest always follows the camera.",
                    step=0.05,
                ),
                "control": ANOTHER,
                "fit": FIT,
                "sigma": inputs.decimal(
                    0.0,
                    0.0,
                    SIGMA_MAX,
                    "Noise level of SVD at 1024x576 at which the object is released at strength 1; it is scaled to "
                    "other sizes and models. 0 uses 31. Lower values are stricter.",
                    advanced=True,
                ),
                "vae": inputs.VAE,
                "background": inputs.BEHIND,
                "objects": inputs.text(
                    "",
                    "The objects painted on the picture below, as strokes: brush 0.05: 0.3,0.4 0.4,0.4; box: 0.1,0.1 "
                    "0.4,0.5. A | starts the next object. Used where no mask and no box is connected.",
                    advanced=True,
                ),
                "box": inputs.socket(
                    "BOUNDING_BOX",
                    "A box around the object to drag, in pixels of the image, from any node that gives a bounding box. "
                    "Used where no mask is connected.",
                    advanced=True,
                    linked=True,
                ),
                "camera": inputs.socket(
                    "SVD_CAMERA",
                    "A camera that films the scene while the objects move in it, from Camera Path. Paths of objects "
                    "are drawn on the image, before the camera moves.",
                ),
                "depth": inputs.socket("IMAGE", "Depth map of the image, near is bright, for a camera that travels."),
                "motion_bucket_id": inputs.STEERED_MOTION_BUCKET,
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        mask: Tensor | None = None,
        latent: dict | None = None,
        path: str = "0.5,0.5; 0.7,0.5",
        easing: str = "linear",
        scale: str = "",
        rotation: str = "",
        strength: float = 1.0,
        hold_background: float = BACKGROUND,
        control: ControlChain | None = None,
        fit: str = "crop",
        sigma: float = 0.0,
        vae=None,
        background: str = "white",
        objects: str = "",
        box: dict | list | None = None,
        camera: CameraPath | None = None,
        depth: Tensor | None = None,
        motion_bucket_id: int = STEERED_BUCKET,
    ) -> tuple:
        latent = connected(latent)
        send_picture(image)
        if depth is not None and camera is None:
            raise ValueError("depth has no effect without a camera; connect Camera Path, or disconnect depth")
        masks = _object_masks(mask, box, objects, image)
        model = model.with_parts(vae=vae)
        paths = parse_drags(points_text(path, image.shape[2], image.shape[1]), scale, rotation, easing)
        pictures, size, frames, _ = start_pictures(image, latent, fit, background)
        if len(paths) not in (1, len(masks)):
            raise ValueError(
                f"the number of drag paths must be 1 or the number of masks, {len(masks)} (got {len(paths)}); separate "
                "paths with |"
            )
        height, width = pictures.shape[2:]
        fitted = [fit_map(row[None], 0, size, width, height, fit, "object mask").clamp(0, 1) for row in masks]
        dragged = [(row, paths[number % len(paths)]) for number, row in enumerate(fitted)]
        distances = picture_depth(0, (height, width), depth, size=size, fit_mode=fit)
        signals = drag_signals(
            model,
            pictures,
            dragged,
            frames,
            background=hold_background,
            camera=camera,
            depth=distances,
            on_frame=host.Progress().decoded,
        )
        settings = mode_settings("dual clock", sigma)
        made = [camera_control(one.signal, "dual clock", strength=strength, **settings) for one in signals]
        chain = (control or ControlChain()).imposing(made, motion_bucket_id)
        pasted, holes = warped_images(signals)
        return (chain, draw_drags(pictures[:1], dragged, frames), pasted, holes)


def connected(latent: dict | None) -> dict:
    """Return the latent; raise ValueError if none is connected (`mask`, which is optional, stands before it)."""
    if latent is None:
        raise ValueError("latent is not connected; connect the latent of Prepare Image for SVD")
    return latent


def _object_masks(mask: Tensor | None, box: dict | list | None, objects: str, image: Tensor) -> Tensor:
    """Return the masks [N, H, W] of the objects to drag: connected, in a box, or painted."""
    if mask is not None:
        return mask[None] if mask.ndim == 2 else mask
    if box is not None:
        return box_masks(box, image)
    masks = paint_objects(objects, image)
    if masks is None:
        raise ValueError("no object is painted; paint one on the picture of the node, or connect a mask")
    return masks


def box_masks(boxes: dict | list, image: Tensor) -> Tensor:
    """Return a mask [N, H, W] for each box {"x", "y", "width", "height"} in pixels of IMAGE [B, H, W, C]."""
    masks = []
    for box in [boxes] if isinstance(boxes, dict) else boxes:
        try:
            x, y, width, height = (round(float(box[name])) for name in ("x", "y", "width", "height"))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"box is {box!r}; connect a bounding box with x, y, width and height") from None
        mask = torch.zeros(image.shape[1:3])
        mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = 1
        masks.append(mask)
    return torch.stack(masks)


def divide_masks(masks: Tensor, clips: int, frames: int) -> list[Tensor]:
    """Divide masks [N, 1, H, W] among the clips: one for all, one per clip, per frame, or per clip and frame."""
    if len(masks) == clips * frames and clips > 1:
        return list(masks.split(frames))
    if len(masks) in (1, frames):
        return [masks]
    if len(masks) == clips:
        return list(masks.split(1))
    raise ValueError(
        f"{len(masks)} motion masks do not fit {clips} clip{'s' * (clips > 1)} of {frames} frames; connect 1, one per "
        "image, or one per frame"
    )


NODES = [SVDReelMotionMask, SVDReelCutAndDrag]
