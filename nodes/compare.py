"""The node that plays two clips over each other."""

import math

from torch import Tensor

from .host import comfy as host
from .host.preview import compared
from .shared import inputs

VIEWS = ("slider", "side by side")


class SVDReelCompare:
    """Play two clips in step."""

    DISPLAY_NAME = "Compare Clips (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Plays two clips in step in the node, one over the other with a slider, or side by side, and measures how far "
        "they differ."
    )
    SEARCH_ALIASES = ["compare videos", "image comparer", "before and after", "a/b", "difference", "psnr"]
    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_TOOLTIPS = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": inputs.socket("IMAGE", "The clip on the left."),
                "second": inputs.socket(
                    "IMAGE",
                    "The clip on the right. It may have another size. The shorter of the two holds its last frame.",
                ),
                "view": inputs.choice(
                    VIEWS,
                    "How the clips are shown. slider lays the first over the second; drag the line. side by side shows "
                    "both whole. You can change it without running again.",
                ),
                "fps": inputs.decimal(
                    7.0, 1.0, 120.0, "Frame rate at which both clips play. 7 suits clips of SVD.", step=1.0
                ),
            },
        }

    def execute(self, first: Tensor, second: Tensor, view: str, fps: float) -> dict | tuple:
        entries = {"svd_taken": [difference(first, second)], **compared((first, second), fps)}
        return {"ui": entries, "result": ()} if host.PRESENT else ()


def difference(first: Tensor, second: Tensor) -> str:
    """Return in words how far two clips [T, H, W, C] in 0..1 differ, over the frames that both have."""
    if first.shape[1:3] != second.shape[1:3]:
        (height, width), (other_height, other_width) = first.shape[1:3], second.shape[1:3]
        return f"{width}x{height} and {other_width}x{other_height}"
    frames = min(len(first), len(second))
    # A frame at a time, because two clips in 4K may fill the memory.
    pairs = zip(first[..., :3], second[..., :3], strict=False)
    error = sum(float((a.float() - b.float()).square().mean()) for a, b in pairs) / frames
    if error == 0:
        return f"{frames} frames, all equal"
    return f"{frames} frames, PSNR {-10 * math.log10(error):.1f} dB"


NODES = [SVDReelCompare]
