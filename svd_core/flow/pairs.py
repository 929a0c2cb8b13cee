"""Measures of neighbouring frames: shared motion, dense motion, and changes besides motion."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .dense import dense_flow, shared_flow, visible, warp_back
from .planes import blur, lay_out, positions
from .shared import Similarity, fit_similarity

PIXELS_AT_ONCE = 2**18  # in a batch of pairs: as fast as more, takes about 100 MB, and stops within a second
FASTEST = 0.05
FLICKER_SIGMA = 1.0  # blur in pixels before comparing along the motion, because interpolation changes finer detail
RIGID_PIXELS, RIGID_SHARE = 0.5, 0.1  # largest distance from the shared motion, in pixels and as a share of it
MASK_BORDER = 0.03  # of the shorter side, where windows cover both sides of the edge of the mask
PERSPECTIVE_RIDGE = 1e-3  # share of the pixels that pulls a fitted perspective to none
LEAST_VISIBLE = 0.1  # if a smaller share of the picture is visible in both frames, all of it is compared

Numbers = dict[str, tuple[float, ...] | None]


def measure_pairs(
    grey: Tensor, area: Tensor | None, size: tuple[int, int], on_batch: Callable[[], None] | None = None
) -> Numbers:
    """Return the numbers per pair of ClipReport, by field, of luminance [T, 1, h, w] in 0..1.

    area: mask [1 | T, h, w] or None. size: (height, width) of the clip; motion is in its pixels. on_batch: called
    before every batch of pairs.
    """
    grey, area = lay_out(grey), None if area is None else lay_out(area)
    found: dict[str, list[float]] = {
        name: [] for name in ("pan_x", "pan_y", "zoom", "roll", "rigid", "motion", "fast_motion", "flicker")
    }
    sides = ("motion_inside", "motion_outside")
    found |= {name: [] for name in sides if area is not None}
    for first, last in _batches(grey):
        if on_batch is not None:
            on_batch()
        here = area if area is None or len(area) == 1 else area[first:last]
        for name, values in _measure_batch(grey[first:last], grey[first + 1 : last + 1], here, size).items():
            found[name] += values.tolist()
    return {**dict.fromkeys(sides), **{name: tuple(values) for name, values in found.items()}}


def _batches(grey: Tensor) -> Iterator[tuple[int, int]]:
    """Return ranges (first, end) of pairs that are measured at once."""
    pairs, most = len(grey) - 1, max(1, PIXELS_AT_ONCE // grey[0].numel())
    return ((first, min(first + most, pairs)) for first in range(0, pairs, most))


def _measure_batch(earlier: Tensor, later: Tensor, area: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
    shared = fit_similarity(earlier, later)
    forward, backward = dense_flow(earlier, later, shared), dense_flow(later, earlier, shared.inverse())
    pixels = forward.new_tensor([size[1] / forward.shape[-1], size[0] / forward.shape[-2]]).reshape(1, 2, 1, 1)
    length = (forward * pixels).norm(dim=1)  # [N, h, w]
    seen, follows = visible(forward, backward), _follows(forward, shared)
    turned = _perspective(forward, shared, seen * follows) * pixels[:, :, 0, 0]  # [N, 2]
    fastest = max(1, round(FASTEST * length[0].numel()))
    found = {
        "pan_x": shared.shift.real * max(size) / 2 + turned[:, 0],
        "pan_y": shared.shift.imag * max(size) / 2 + turned[:, 1],
        "zoom": shared.scale.abs(),
        "roll": torch.rad2deg(shared.scale.angle()),
        "rigid": follows.mean(dim=(1, 2)),
        "motion": length.mean(dim=(1, 2)),
        "fast_motion": length.flatten(1).topk(fastest, dim=1).values.mean(dim=1),
        "flicker": _flicker(earlier, later, forward, seen),
    }
    if area is not None:
        found["motion_inside"] = _mean_within(length, area > 0.5)
        found["motion_outside"] = _mean_within(length, area <= 0.5)
    return found


def _follows(flow: Tensor, shared: Similarity) -> Tensor:
    """Return 1 where the picture follows the shared motion, else 0: [N, h, w]."""
    expected = shared_flow(shared, tuple(flow.shape[-2:]))
    allowed = RIGID_PIXELS + RIGID_SHARE * expected.norm(dim=1)
    return ((flow - expected).norm(dim=1) < allowed).float()


def _perspective(flow: Tensor, shared: Similarity, weight: Tensor) -> Tensor:
    """Return how much further the centre of the picture moves than the shared motion: [N, 2], pixels of the flow.

    A similarity gives the mean motion. If the camera turns, the edges of the picture move further than its centre, by a
    twelfth at the edges of a usual lens. The flow of a turning camera over a plane has eight parameters (six affine,
    two of perspective); they are fitted to what the shared motion leaves, weighted by `weight` [N, h, w].
    """
    height, width = flow.shape[-2:]
    rest = (flow - shared_flow(shared, (height, width))).cpu().double()  # some accelerators have no float64
    x, y = positions(rest, (1.0, height / width))
    x, y = (part.expand(height, width) for part in (x, y))
    one, none = torch.ones_like(x), torch.zeros_like(x)
    rows = torch.stack(
        [
            torch.stack([one, x, y, none, none, none, x * x, x * y]),
            torch.stack([none, none, none, one, x, y, x * y, y * y]),
        ]
    )  # [2, 8, h, w]
    weight = weight.cpu().double()
    matrix = torch.einsum("cihw,cjhw,nhw->nij", rows, rows, weight)
    vector = torch.einsum("cihw,nchw,nhw->ni", rows, rest, weight)
    matrix += PERSPECTIVE_RIDGE * height * width * torch.eye(8, dtype=torch.float64)
    fitted = torch.linalg.solve(matrix, vector[..., None])[..., 0]  # [N, 8]
    return fitted[:, [0, 3]].to(flow)


def _flicker(earlier: Tensor, later: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Return the mean change [N] of luminance along the motion, in per cent, of pixels visible in both frames.

    seen: 1 where that is so, [N, h, w].
    """
    moved, within = warp_back(blur(later, FLICKER_SIGMA), flow, mode="bicubic")
    change = (moved - blur(earlier, FLICKER_SIGMA)).abs()[:, 0]
    lost = seen.mean(dim=(1, 2), keepdim=True) < LEAST_VISIBLE
    weight = torch.where(lost, torch.ones_like(seen), seen * within)
    return 100 * (change * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _mean_within(length: Tensor, region: Tensor) -> Tensor:
    """Return the mean [N] of [N, h, w] over a region [1 | N, h, w] without its border, if it is wide enough; else 0."""
    border = max(1, round(MASK_BORDER * min(region.shape[-2:])))
    core = 1 - F.max_pool2d((~region).float()[:, None], 2 * border + 1, 1, border)[:, 0]
    empty = core.sum(dim=(1, 2), keepdim=True) == 0
    weight = torch.where(empty, region.float(), core)
    return (length * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)
