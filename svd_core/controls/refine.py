"""Inner refinement of replaced estimates: holes are drawn again at the same noise level while all else is known.

After hh-control (arXiv 2605.11871), whose steps are followed by block-conditional pseudo-Gibbs rounds on what is not
observed, and WorldForge (arXiv 2509.15130), which lets go of a signal where the free estimate disagrees. Both ask for
no gradients; each round costs one evaluation. RePaint (Lugmayr et al. 2022) is the common ancestor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling.controls import Denoise, Run

MOST_ROUNDS = 4  # more lets the colours of holes drift away from those around them
HIGH, LOW = 60.0, 0.5  # sigmas at 1024x576 between which forms in holes settle
SETTLED = 0.02  # mean change of an estimate of unit deviation below which a patch is left as it is
ENOUGH = 0.9  # share of settled patches that ends the rounds
PATCH = 4  # cells per side; a patch takes half of the frames


def refines_at(run: Run, sigma: float) -> bool:
    """Return whether holes are refined at this noise level of the run."""
    return LOW * run.scale < sigma <= HIGH * run.scale


def refine_holes(
    run: Run, x: Tensor, sigma: float, denoise: Denoise, latents: Tensor, known: Tensor, rounds: int
) -> Tensor:
    """Return the state `x` [T, 4, h, w] at `sigma` with its holes drawn again, up to `rounds` times.

    latents: scaled, [T, 4, h, w]. known: cells that they are imposed on, [T, 1, h, w], boolean. These get exactly their
    latents with the noise of the run, so their texture does not swim; the others get the model's answer with fresh
    noise. Patches whose answer no longer changes are left as they are.
    """
    if bool(known.all()):
        return x
    held = latents + sigma * run.noise
    x = torch.where(known, held, x)
    before, settled = None, torch.zeros_like(known)
    for _ in range(rounds):
        estimate = denoise(x, sigma)
        if before is not None:
            settled = settled | (_patch_change(estimate - before, known) < SETTLED)
            if float(settled[~known].float().mean()) >= ENOUGH:
                break
        x = torch.where(known | settled, x, estimate + sigma * run.fresh_noise())
        before = estimate
    return x


def agreement(difference: Tensor, valid: Tensor) -> Tensor:
    """Return how far a free estimate agrees with the signal: exp(-(r / q)^2), [T, 1, h, w].

    difference: estimate minus signal, [T, 4, h, w]; r is its mean size in a cell, q the 0.8 quantile of r over the
    valid cells of the frame. Cells where the picture or its depth is wrong are let go.
    """
    size = difference.abs().mean(1, keepdim=True)
    own = torch.where(valid > 0.5, size, torch.nan)
    limit = own.flatten(1).nanquantile(0.8, dim=1).nan_to_num(0.0).reshape(-1, 1, 1, 1)
    return torch.exp(-((size / limit.clamp(min=1e-6)) ** 2))


def _patch_change(difference: Tensor, known: Tensor) -> Tensor:
    """Return the mean size of `difference` [T, 4, h, w] over the holes of the patch around each cell, [T, 1, h, w]."""
    frames, _, height, width = difference.shape
    hole = (~known).to(difference)
    planes = torch.cat([difference.abs().mean(1, keepdim=True) * hole, hole], dim=1)  # [T, 2, h, w]
    size = (max(1, (frames + 1) // 2), PATCH, PATCH)
    # The last patch of an axis may be smaller; sums and counts are averaged alike.
    means = F.avg_pool3d(planes.movedim(1, 0), size, ceil_mode=True)  # [2, t, y, x]
    for axis, (step, length) in enumerate(zip(size, (frames, height, width), strict=True), start=1):
        means = means.repeat_interleave(step, axis).narrow(axis, 0, length)
    return (means[0] / means[1].clamp(min=1e-6))[:, None]
