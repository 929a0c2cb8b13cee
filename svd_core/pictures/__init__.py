"""Start pictures: read files, check tensors, fit them to the size of a clip and crop clips back.

Layouts: an "image" is [B, H, W, C] in 0..1 with C = 1, 3 or 4; a "batch" is [B, 3, H, W] in -1..1.
"""

from .fitting import Placement, check_size, fit, size_like, snap_size
from .reading import as_batch, as_image, check_image, composite, from_pil, open_picture

__all__ = [
    "Placement",
    "as_batch",
    "as_image",
    "check_image",
    "check_size",
    "composite",
    "fit",
    "from_pil",
    "open_picture",
    "size_like",
    "snap_size",
]
