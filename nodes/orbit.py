"""The nodes of SV3D: prepare the picture of an object, and orbit around it."""

import torch
from torch import Tensor

from ..svd_core.pictures import check_image
from ..svd_core.pictures.objects import OBJECT_RATIO, OBJECT_SIZE, object_mask, prepare_object
from ..svd_core.pipelines.orbit import OrbitSettings, orbit
from .host import comfy as host
from .host.preview import ClipPreview
from .shared import inputs
from .shared.model import LoadedModel

ORBIT_FPS = 7.0  # of the finished turntable and its preview


class SVDReelPrepareObject:
    """Cut out, centre and place on white, as SV3D expects it."""

    DISPLAY_NAME = "Prepare Object for SV3D"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Cuts an object out of its picture and centres it on a white square, as SV3D was trained. The mask is used "
        "first, then the picture's transparency, then its white ground."
    )
    SEARCH_ALIASES = ["sv3d", "remove background", "turntable", "centre object", "multi-view"]
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    OUTPUT_TOOLTIPS = ("The prepared square picture, for Orbit Object (SV3D).", "The object in it, 1 inside.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": inputs.socket("IMAGE", "A picture of one object. Of a batch, the first picture is used."),
                "object_ratio": inputs.decimal(
                    OBJECT_RATIO,
                    0.0,
                    1.0,
                    "Share of the square that the longer side of the object takes, 0.7 to 0.95. Lower it where the "
                    "orbit cuts the object off. 0 keeps the scale of the picture, as the official script does.",
                    step=0.01,
                ),
                "size": inputs.whole(
                    OBJECT_SIZE,
                    64,
                    2048,
                    "Side of the square in pixels. SV3D was trained on 576; other sizes look worse.",
                    step=8,
                    advanced=True,
                ),
            },
            "optional": {
                "mask": inputs.socket(
                    "MASK",
                    "Where the object is, from any background-removal node. Without it, transparency or a "
                    "white ground decides.",
                ),
            },
        }

    def execute(self, image: Tensor, object_ratio: float, size: int, mask: Tensor | None = None) -> tuple:
        picture = check_image(image[:1])[0]
        prepared = prepare_object(picture, first_mask(mask), ratio=object_ratio or None, size=size)[None]
        return (prepared.to(host.output_device()), object_mask(prepared).to(host.output_device()))


class SVDReelOrbit:
    """Condition, sample and decode an orbit in one node."""

    DISPLAY_NAME = "Orbit Object (SV3D)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Turns around the object in a picture: 21 views of a full turn, made by SV3D_u or SV3D_p in the official "
        "order, the picture's own view last. Needs a model loaded from sv3d_u.safetensors or sv3d_p.safetensors."
    )
    SEARCH_ALIASES = ["sv3d", "turntable", "3d", "multi-view", "novel view", "SV3D_Conditioning", "orbit"]
    RETURN_TYPES = ("IMAGE", "MASK", "STRING", "FLOAT")
    RETURN_NAMES = ("frames", "mask", "angles", "fps")
    OUTPUT_TOOLTIPS = (
        "The views, for Create Video or other tools. They form a seamless loop.",
        "The object in every view, 1 inside.",
        "Elevation and azimuth of every view in degrees, as CSV text.",
        "A playback rate of 7 frames per second, for Create Video.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket("IMAGE", "A picture of one object, or the result of Prepare Object for SV3D."),
                "elevation": inputs.decimal(
                    OrbitSettings.elevation,
                    -90.0,
                    90.0,
                    "Height from which the picture was taken, in degrees above the object; 0 is level with it. Used by "
                    "SV3D_p; leave it at 10 for SV3D_u.",
                    step=1.0,
                ),
                "steps": inputs.whole(
                    OrbitSettings.steps,
                    1,
                    1000,
                    "Sampling steps. 50 is official; 20 gives a draft in less than half the time.",
                ),
                "seed": inputs.SEED,
                "object_ratio": inputs.decimal(
                    OBJECT_RATIO,
                    0.0,
                    1.0,
                    "Share of the frame that the longer side of the object takes, 0.7 to 0.95. 0 keeps the scale of "
                    "the picture.",
                    step=0.01,
                ),
                "prepared": inputs.switch(
                    False, "The picture comes from Prepare Object for SV3D and is used as it is.", advanced=True
                ),
                "reverse": inputs.switch(False, "Turns the other way. The picture's own view stays last."),
                "keep_picture": inputs.switch(
                    True,
                    "The last view is the prepared picture itself, as in the official script. Turn it off to get the "
                    "model's own last view.",
                    advanced=True,
                ),
                "elevation_start": inputs.decimal(
                    -100.0,
                    -100.0,
                    90.0,
                    "Elevation of the first view, from which the camera moves evenly to the elevation above. -100 "
                    "keeps one elevation. SV3D_p only.",
                    step=1.0,
                    advanced=True,
                ),
                "elevations": inputs.text(
                    "", "Elevation of every view, numbers separated by commas. Empty uses the two above.", advanced=True
                ),
                "azimuths": inputs.text(
                    "",
                    "Azimuth of every view in degrees, 0 to 360, ascending; the last is the picture's own view. Empty "
                    "makes one even turn.",
                    advanced=True,
                ),
                "max_guidance": inputs.decimal(
                    OrbitSettings.max_guidance,
                    0.0,
                    20.0,
                    "Guidance of the back view; the first and last view get 1. 2.5 is official. Raise it a little for "
                    "crisper backs.",
                    advanced=True,
                ),
            },
            "optional": {
                "mask": inputs.socket(
                    "MASK", "Where the object is. Without it, transparency or a white ground decides."
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        elevation: float,
        steps: int,
        seed: int,
        object_ratio: float,
        prepared: bool,
        reverse: bool,
        keep_picture: bool,
        elevation_start: float,
        elevations: str,
        azimuths: str,
        max_guidance: float,
        mask: Tensor | None = None,
    ) -> tuple:
        settings = OrbitSettings(
            steps=steps,
            max_guidance=max_guidance,
            elevation=elevation,
            elevation_start=None if elevation_start < -90 else elevation_start,
            elevations=inputs.parse_numbers(elevations, "elevations") if elevations.strip() else None,
            azimuths=inputs.parse_numbers(azimuths, "azimuths") if azimuths.strip() else None,
            seed=seed,
            reverse=reverse,
            object_ratio=object_ratio or None,
            prepared=prepared,
            keep_picture=keep_picture,
        )
        picture = check_image(image[:1])[0]
        made = orbit(
            model,
            picture,
            settings,
            mask=first_mask(mask),
            on_step=host.Progress(preview=ClipPreview(model.colours, ORBIT_FPS)).step,
            on_decode=lambda done, total: host.check_interrupt(),
        )
        device = host.output_device()
        return (made.frames.to(device), made.mask.to(device), made.path.table(reverse=reverse), ORBIT_FPS)


def first_mask(mask: Tensor | None) -> Tensor | None:
    """Return the first mask [H, W] of a MASK [B, H, W] or [H, W]; None without a mask."""
    if mask is None:
        return None
    return torch.as_tensor(mask).float().reshape(-1, *mask.shape[-2:])[0]


NODES = [SVDReelPrepareObject, SVDReelOrbit]
