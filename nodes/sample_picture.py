"""The node with pictures to begin with, which lie in web/pictures, where the editor finds them as well."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..svd_core.pictures import open_picture
from ..svd_core.pictures.strokes import paint, parse_strokes
from .host import comfy as host
from .shared import inputs

FOLDER = Path(__file__).resolve().parents[1] / "web" / "pictures"
FAR, GROUND, SUBJECT = 0.08, 0.55, 0.8  # depth values: the top, how much nearer the bottom is, and the subject


class Sample(NamedTuple):
    """A picture's main subject, painted as strokes, and how its ground comes nearer from the horizon down."""

    subject: str
    horizon: float


SAMPLES = {
    "product": Sample("brush 0.32: 0.45,0.62; brush 0.19: 0.48,0.33 0.48,0.45", 0.0),
    "portrait": Sample("brush 0.17: 0.46,0.2; brush 0.3: 0.42,0.72 0.5,0.95; brush 0.13: 0.46,0.35", 0.4),
    "landscape": Sample("box: 0,0.72 1,1", 0.5),
    "cat": Sample("brush 0.27: 0.35,0.35 0.45,0.75; brush 0.12: 0.75,0.05", 0.3),
    "night": Sample("box: 0.475,0.29 0.53,1", 0.85),
    "drawing": Sample("box: 0.25,0.28 0.5,0.72; brush 0.02: 0.44,0.25", 0.7),
}


class SVDReelSamplePicture:
    """Give a picture of the pack."""

    DISPLAY_NAME = "Sample Picture (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "A picture to try everything with, on any install: a product, a portrait, a landscape, a cat, a night scene "
        "or a drawing, with a mask of the subject and a simple depth map. Use Load Image for your own."
    )
    SEARCH_ALIASES = ["example image", "test picture", "demo image", "photo", "sample image"]
    RETURN_TYPES = ("IMAGE", "MASK", "MASK")
    RETURN_NAMES = ("image", "mask", "depth")
    OUTPUT_TOOLTIPS = (
        "The picture, about 1024x576; the portrait is upright.",
        "The main subject, for Paint Motion Mask, Cut and Drag, and Control Camera.",
        "A simple depth map, near is bright, for depth_mask of Control Camera.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "picture": inputs.choice(
                    SAMPLES,
                    "The picture. product is a cup on a table, night is a rocket at dusk, drawing is a house in ink.",
                ),
            },
        }

    def execute(self, picture: str) -> tuple:
        image = open_picture(FOLDER / f"{picture}.jpg")  # [1, H, W, 3]
        height, width = image.shape[1:3]
        sample = SAMPLES[picture]
        mask = paint(parse_strokes(sample.subject)[0], height, width)
        device = host.output_device()
        depth = depth_of(mask, sample.horizon)
        return (image.to(device, host.output_dtype()), mask[None].to(device), depth[None].to(device))


def depth_of(mask: Tensor, horizon: float) -> Tensor:
    """Return a depth map [H, W], near is 1: a ground below the horizon, with the subject standing on it."""
    height, width = mask.shape
    down = (torch.arange(height) + 0.5) / height
    ground = FAR + GROUND * ((down - horizon) / (1 - horizon)).clamp(min=0)
    return torch.maximum(ground[:, None].expand(height, width), SUBJECT * mask)


NODES = [SVDReelSamplePicture]
