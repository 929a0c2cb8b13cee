"""The node that measures clips."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .host import comfy as host
from .shared import inputs
from .shared.model import LoadedModel, image_token


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """Adapts a CLIP_VISION for `measure`."""

    clip_vision: Any

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the image token [B, 1, D] of images [B, 3, H, W] in -1..1."""
        return image_token(self.clip_vision, image)


class SVDReelReport:
    """Measure a clip."""

    DISPLAY_NAME = "Measure Clip (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Motion"
    DESCRIPTION = (
        "Measures a clip from any source: pan, zoom and roll, amount of motion, flicker, drift of colour, contrast "
        "and sharpness, the first frame against the start image, how well the clip loops, and how similar the frames "
        "stay. Outputs the numbers as text and JSON, and a page of curves."
    )
    SEARCH_ALIASES = [
        "clip report",
        "video quality",
        "metrics",
        "motion amount",
        "optical flow",
        "flicker",
        "colour drift",
        "psnr",
        "ssim",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("text", "json", "page")
    OUTPUT_TOOLTIPS = (
        "One line for each measure, for Preview Any or Save Text.",
        "All numbers of all frames as JSON, for programs.",
        "Curves over the frames as an image, for Preview Image.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "frames": inputs.socket(
                    "IMAGE", "The frames of one clip in order, such as those of Decode SVD Clip or of a loaded video."
                ),
            },
            "optional": {
                "image": inputs.socket(
                    "IMAGE",
                    "The start image, to measure how close the first frame is to it (PSNR and SSIM). An image of "
                    "another size is scaled and cropped.",
                ),
                "mask": inputs.socket(
                    "MASK", "Divides motion into inside and outside the mask. Any size; one mask, or one per frame."
                ),
                "model": inputs.socket(
                    "SVD_MODEL",
                    "A model whose image encoder measures how similar the frames stay to the start image, or to the "
                    "first frame if no image is connected.",
                ),
                "clip_vision": inputs.socket(
                    "CLIP_VISION", "An image encoder instead of the model's own.", advanced=True
                ),
                "seams": inputs.text(
                    "",
                    "Frames at which a new part begins, counted from 0, such as 14, 28. Each join is compared with "
                    "the other steps of the clip. Leave it empty for a clip without joins.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        frames: Tensor,
        image: Tensor | None = None,
        mask: Tensor | None = None,
        model: LoadedModel | None = None,
        clip_vision=None,
        seams: str = "",
    ) -> tuple:
        # Imported on first use, because ComfyUI imports every pack at start-up.
        from ..svd_core.report import measure, plot

        report = measure(
            frames[..., :3],  # without an alpha channel
            image=image,
            mask=mask,
            model=model if clip_vision is None else ImageEncoder(clip_vision),
            seams=inputs.parse_numbers(seams, "seams") if seams.strip() else (),
            on_work=host.check_interrupt,
        )
        return (report.text(), report.to_json(), plot(report))


NODES = [SVDReelReport]
