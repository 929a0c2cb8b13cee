"""What neighbouring frames tell: shared motion, dense motion, and what changes besides."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .dense import dense_flow, follow, shared_flow, visible
from .planes import blur
from .shared import Similarity, fit_similarity

PIXELS_AT_ONCE = 2**20  # in a batch of pairs: bounds memory to some hundred megabytes
FASTEST = 0.05
FLICKER_SIGMA = 1.0  # blur in pixels before comparing along the motion: what is finer, interpolation changes too
RIGID_PIXELS, RIGID_SHARE = 0.5, 0.1  # how far motion may be from the shared one, besides a share of its length
MASK_BORDER = 0.03  # of the shorter side: motion estimated there belongs to both sides of the mask's edge
LEAST_VISIBLE = 0.1  # below this share of the picture the motion explains nothing, so all of it is compared

Numbers = dict[str, tuple[float, ...] | None]


def measure_pairs(grey: Tensor, area: Tensor | None, size: tuple[int, int]) -> Numbers:
    """The per-pair numbers of ClipReport, by field, of luminance [T, 1, h, w] in 0..1.

    area: mask [1 | T, h, w] or None. size: (height, width) of the clip, in whose pixels motion is told.
    """
    found: dict[str, list[float]] = {
        name: [] for name in ("pan_x", "pan_y", "zoom", "roll", "rigid", "motion", "fast_motion", "flicker")
    }
    sides = ("motion_inside", "motion_outside")
    found |= {name: [] for name in sides if area is not None}
    for first, last in _batches(grey):
        here = area if area is None or len(area) == 1 else area[first:last]
        for name, values in _measure_batch(grey[first:last], grey[first + 1 : last + 1], here, size).items():
            found[name] += values.tolist()
    return {**dict.fromkeys(sides), **{name: tuple(values) for name, values in found.items()}}


def _batches(grey: Tensor) -> Iterator[tuple[int, int]]:
    pairs, most = len(grey) - 1, max(1, PIXELS_AT_ONCE // grey[0].numel())
    return ((first, min(first + most, pairs)) for first in range(0, pairs, most))


def _measure_batch(earlier: Tensor, later: Tensor, area: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
    shared = fit_similarity(earlier, later)
    forth, back = dense_flow(earlier, later, shared), dense_flow(later, earlier, shared.inverse())
    pixels = forth.new_tensor([size[1] / forth.shape[-1], size[0] / forth.shape[-2]]).reshape(1, 2, 1, 1)
    length = (forth * pixels).norm(dim=1)  # [N, h, w]
    fastest = max(1, round(FASTEST * length[0].numel()))
    found = {
        "pan_x": shared.shift.real * max(size) / 2,
        "pan_y": shared.shift.imag * max(size) / 2,
        "zoom": shared.scale.abs(),
        "roll": torch.rad2deg(shared.scale.angle()),
        "rigid": _rigid(forth, shared),
        "motion": length.mean(dim=(1, 2)),
        "fast_motion": length.flatten(1).topk(fastest, dim=1).values.mean(dim=1),
        "flicker": _flicker(earlier, later, forth, visible(forth, back)),
    }
    if area is not None:
        found["motion_inside"] = _mean_within(length, area > 0.5)
        found["motion_outside"] = _mean_within(length, area <= 0.5)
    return found


def _rigid(flow: Tensor, shared: Similarity) -> Tensor:
    """Share [N] of the picture that moves as all of it does."""
    expected = shared_flow(shared, tuple(flow.shape[-2:]))
    allowed = RIGID_PIXELS + RIGID_SHARE * expected.norm(dim=1)
    return ((flow - expected).norm(dim=1) < allowed).float().mean(dim=(1, 2))


def _flicker(earlier: Tensor, later: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Mean change [N] of luminance along the motion in per cent, where the pixel is `seen` [N, h, w] in both."""
    moved, within = follow(blur(later, FLICKER_SIGMA), flow, mode="bicubic")
    change = (moved - blur(earlier, FLICKER_SIGMA)).abs()[:, 0]
    lost = seen.mean(dim=(1, 2), keepdim=True) < LEAST_VISIBLE
    weight = torch.where(lost, torch.ones_like(seen), seen * within)
    return 100 * (change * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _mean_within(length: Tensor, region: Tensor) -> Tensor:
    """Mean [N] of [N, h, w] over a region [1 | N, h, w], its border left out if it is wider; 0 of no region."""
    border = max(1, round(MASK_BORDER * min(region.shape[-2:])))
    core = 1 - F.max_pool2d((~region).float()[:, None], 2 * border + 1, 1, border)[:, 0]
    empty = core.sum(dim=(1, 2), keepdim=True) == 0
    weight = torch.where(empty, region.float(), core)
    return (length * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)
