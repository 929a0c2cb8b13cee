"""Line drawings of frames, white on black, as line-art ControlNets take them.

Edges of the luminance (Canny 1986: smoothed gradients, thinned across the edge), kept soft instead of thresholded, so
that lines do not blink from frame to frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.planes import blur, gradients, lay_out, luminance

SMOOTHING = 1 / 400  # of the shorter side; finer detail draws no line
STRONGEST = 0.98  # quantile of the edges' strengths that is drawn white
FAINTEST = 0.06  # share of it below which nothing is drawn
SAMPLES = 2**20  # edges looked at for the quantile


def line_drawing(frames: Tensor, *, detail: float = 1.0) -> Tensor:
    """Return line drawings [T, H, W, 3] in 0..1 of frames [T, H, W, C] in 0..1; all frames share one scale.

    detail: above 1 draws fainter edges too, below 1 only strong ones; 0.25 to 4.
    """
    check_detail(detail)
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4):
        raise ValueError(f"line drawings need frames [T, H, W, C] with 1, 3 or 4 channels (got {list(frames.shape)})")
    grey = frames[..., 0] if frames.shape[-1] == 1 else luminance(frames[..., :3].float())  # [T, H, W]
    grey = lay_out(grey[:, None].float())
    sigma = max(0.7, min(grey.shape[-2:]) * SMOOTHING)
    edges = torch.cat([_thin_edges(blur(row, sigma)) for row in grey.split(1)])  # one by one: long clips are large
    some = edges[edges > 0]
    if not len(some):
        return edges.movedim(1, -1).expand(-1, -1, -1, 3).contiguous()  # flat frames have no lines
    strong = torch.quantile(some[:: max(1, len(some) // SAMPLES)].contiguous(), STRONGEST) / detail
    drawn = ((edges / strong.clamp(min=1e-6) - FAINTEST) / (1 - FAINTEST)).clamp(0, 1)
    # A blur of half a pixel takes the steps out of slanted lines; the gain restores their brightness.
    drawn = (blur(drawn, 0.6) * 1.5).clamp(0, 1)
    return drawn.movedim(1, -1).expand(-1, -1, -1, 3).contiguous()


def check_detail(detail: float) -> None:
    """Raise ValueError for a detail that no drawing takes, before a model is loaded."""
    if not 0.05 <= detail <= 20:
        raise ValueError(f"the detail of line drawings must be 0.05 to 20 (got {detail:g}); use 0.5 to 2, such as 1")


def _thin_edges(grey: Tensor) -> Tensor:
    """Return the strength of the edges of [1, 1, H, W] where it is highest across the edge, else 0."""
    across, along = gradients(grey)
    strength = torch.hypot(across, along)
    height, width = grey.shape[-2:]
    unit = torch.cat([across, along]) / strength.clamp(min=1e-8)  # [2, 1, H, W]
    y, x = torch.meshgrid(torch.arange(height).to(grey), torch.arange(width).to(grey), indexing="ij")
    kept = strength.clone()
    for side in (-1.0, 1.0):
        place = torch.stack([x + side * unit[0, 0], y + side * unit[1, 0]], dim=-1)[None]  # [1, H, W, 2]
        place = (place + 0.5) * (2 / place.new_tensor([width, height])) - 1
        beside = F.grid_sample(strength, place, "bilinear", padding_mode="border", align_corners=False)
        kept = torch.where(strength >= beside, kept, torch.zeros_like(kept))
    return kept
