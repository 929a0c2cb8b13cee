"""Dense flow: where every pixel moves from one frame to the next, by pyramidal Lucas-Kanade.

Windowed least squares on blurred luminance, coarse to fine (Bouguet, "Pyramidal implementation of the Lucas Kanade
feature tracker", 2000), with less weight for pixels of the window that do not fit. Areas without texture take the
motion of their surroundings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .planes import blur, extent, gradients, inside, lay_out, positions, pyramid, sample
from .shared import Similarity

SMALLEST_LEVEL = 16
SIGMA = 0.8  # blur of each level in pixels
WINDOW = 3.0  # standard deviation of the window in pixels
STEPS = 3  # per level
DAMPING = 3e-6  # squared gradient per pixel; below it there is only rounding
TEXTURE = 1e-4  # squared gradient at which the motion of a pixel weighs as much as that of its surroundings
FILL, FAINT = 4.0, 1e-3  # blur of the surroundings in pixels, and their weight where they have no texture
DISAGREEMENT = 0.05  # of luminance; halves the weight of a pixel
LONGEST_STEP = 2.0  # pixels of the level
MARGIN = 0.005  # of luminance, by which another motion must fit better to replace the estimate
UNSEEN = 0.02  # of luminance, the error of a motion that ends outside: worse than a good fit, better than a bad one
FORGIVEN = 0.05  # allowed difference of forward and backward flow, as a share of the motion, plus half a pixel


def dense_flow(earlier: Tensor, later: Tensor, shared: Similarity) -> Tensor:
    """Return the flow [N, 2, h, w] (x, y) in pixels from `earlier` to `later`, luminance [N, 1, h, w] in 0..1.

    shared: the fitted similarity of the pairs (`fit_similarity`); its change of light is removed first.
    """
    earlier, later = lay_out(earlier), lay_out(later)
    reach = extent(*earlier.shape[-2:])
    gain, bias = (part[:, None, None, None] for part in (shared.gain, shared.bias))
    lit = earlier * (1 + gain) + bias
    levels = list(zip(pyramid(lit, SMALLEST_LEVEL), pyramid(later, SMALLEST_LEVEL), strict=True))
    flow = earlier.new_zeros(len(earlier), 2, *levels[0][0].shape[-2:])
    for first, second in levels:
        first, second = blur(first, SIGMA), blur(second, SIGMA)
        flow = enlarge(flow, first.shape[-2:])
        flow = _best(first, second, flow, [torch.zeros_like(flow), shared_flow(shared, tuple(first.shape[-2:]))])
        own = gradients(first)
        for _ in range(STEPS):
            flow = flow + _step(first, second, own, flow, reach)
        flow = _spread(flow, *own)
    return flow


def enlarge(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a flow [N, 2, h, w] at another (height, width), in pixels of that size."""
    flow = lay_out(flow)
    if tuple(flow.shape[-2:]) == tuple(size):
        return flow
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).reshape(1, 2, 1, 1)
    return F.interpolate(flow, tuple(size), mode="bilinear", align_corners=False) * scale


def warp_back(planes: Tensor, flow: Tensor, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Return later pictures [N, C, h, w] warped back along `flow` [N, 2, h, w], and where that is inside: [N, h, w]."""
    planes, flow = lay_out(planes), lay_out(flow)
    reach = extent(*planes.shape[-2:])
    there = _ends(planes, flow, reach)
    return sample(planes, *there, reach, mode), inside(*there, reach)


def visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Return 1 where a pixel of the earlier picture is visible in the later, from the flows both ways: [N, h, w]."""
    forward, backward = lay_out(forward), lay_out(backward)
    returned, within = warp_back(backward, forward)
    length = forward.norm(dim=1)
    return within * ((forward + returned).norm(dim=1) < 0.5 + FORGIVEN * length)


def shared_flow(motion: Similarity, size: tuple[int, int]) -> Tensor:
    """Return the flow [N, 2, h, w] of a similarity, in pixels of a picture of `size` (height, width)."""
    height, width = size
    reach = extent(height, width)
    x, y = positions(motion.gain.new_empty(height, width), reach)
    to_x, to_y = motion.move(x, y)
    return torch.stack([(to_x - x) * (width / 2 / reach[0]), (to_y - y) * (height / 2 / reach[1])], dim=1)


def _ends(planes: Tensor, flow: Tensor, reach: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return the positions x, y [N, h, w] to which a flow moves the pixel centres."""
    height, width = planes.shape[-2:]
    x, y = positions(planes, reach)
    return x + flow[:, 0] * (2 * reach[0] / width), y + flow[:, 1] * (2 * reach[1] / height)


def _best(first: Tensor, second: Tensor, flow: Tensor, others: list[Tensor]) -> Tensor:
    """Return for each pixel the flow, or one of `others` if that fits its surroundings clearly better.

    Coarse levels lose a small part that stands still, or follows the shared motion, next to one that moves far.
    """
    error = _error(first, second, flow)
    for other in others:
        its = _error(first, second, other)
        better = its + MARGIN < error
        flow, error = torch.where(better, other, flow), torch.where(better, its, error)
    return flow


def _error(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Return the error of a flow around each pixel: [N, 1, h, w]."""
    moved, within = warp_back(second, flow)
    return blur(torch.where(within[:, None] > 0, (moved - first).abs(), UNSEEN), WINDOW)


def _step(
    first: Tensor, second: Tensor, own: tuple[Tensor, Tensor], flow: Tensor, reach: tuple[float, float]
) -> Tensor:
    """Return the least-squares step of the window around each pixel: [N, 2, h, w]."""
    there = _ends(first, flow, reach)
    moved = sample(second, *there, reach)
    residual = moved - first
    gx, gy = ((mine + its) / 2 for mine, its in zip(own, gradients(moved), strict=True))
    weight = inside(*there, reach)[:, None] / (1 + (residual / DISAGREEMENT) ** 2)
    sums = torch.cat([gx * gx, gx * gy, gy * gy, gx * residual, gy * residual], dim=1) * weight
    xx, xy, yy, xr, yr = blur(sums, WINDOW).unbind(1)  # each [N, h, w]
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy
    step = torch.stack([xy * yr - yy * xr, xy * xr - xx * yr], dim=1) / determinant[:, None]
    return step.clamp(-LONGEST_STEP, LONGEST_STEP)


def _spread(flow: Tensor, gx: Tensor, gy: Tensor) -> Tensor:
    """Return the flow with areas without texture filled from those around; gx, gy: gradients [N, 1, h, w]."""
    xx, xy, yy = blur(torch.cat([gx * gx, gx * gy, gy * gy], dim=1), WINDOW).split(1, dim=1)
    lesser = (xx + yy) / 2 - (((xx - yy) / 2) ** 2 + xy * xy).sqrt()  # eigenvalue: texture across both directions
    trust = lesser / (lesser + TEXTURE)
    around = blur(torch.cat([flow * trust, trust], dim=1), FILL) + FAINT * blur(torch.cat([flow, trust**0], 1), FILL)
    return trust * flow + (1 - trust) * around[:, :2] / around[:, 2:]
