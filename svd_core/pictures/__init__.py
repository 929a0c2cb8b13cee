"""Start pictures: reading files of any mode, checking tensors, fitting to the size of the clip and back.

Knows nothing of models. Layouts: "image" is [B, H, W, C] in 0..1 (C = 1, 3 or 4), "batch" is [B, 3, H, W] in -1..1.
"""

from .fitting import Placement, check_size, fit, size_like, snap_size
from .reading import as_batch, check_image, composite, from_pil, open_picture

__all__ = [
    "Placement",
    "as_batch",
    "check_image",
    "check_size",
    "composite",
    "fit",
    "from_pil",
    "open_picture",
    "size_like",
    "snap_size",
]
