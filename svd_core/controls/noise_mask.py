"""Sample only where a mask allows it, as ComfyUI's samplers do for a latent with a noise mask."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..sampling.controls import Control, Evaluate, Inputs, Run


@dataclass(frozen=True, eq=False)
class NoiseMask(Control):
    """Keep a clip where a mask is 0, and sample it where the mask is 1.

    latent: the scaled clip [T, 4, h, w] to keep. mask: [T, 1, h, w] in 0..1. In every evaluation, the kept part of the
    state is the clip with the run's noise at that level, and the kept part of the estimate is the clip itself, as in
    `KSamplerX0Inpaint` of ComfyUI.
    """

    latent: Tensor
    mask: Tensor

    outermost = True  # the clip is kept as it is, whatever other controls roll, reverse or cut

    @property
    def active(self) -> bool:
        """Whether anything is kept."""
        return bool((self.mask < 1).any())

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate a state whose kept part is the noised clip, and return an estimate whose kept part is the clip."""
        latent, mask = self.latent.to(run.noise), self.mask.to(run.noise)

        def masked(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            known = latent + run.noise * sigma
            estimate = evaluate(x * mask + known * (1 - mask), sigma, inputs)
            return estimate * mask + latent * (1 - mask)

        return masked


def fit_noise_mask(mask: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Return a mask [..., H, W] in 0..1 as [frames, 1, height, width], resized and repeated as ComfyUI does.

    Raises ValueError for a mask without pixels or with values outside 0 to 1.
    """
    if mask.ndim < 2 or 0 in mask.shape:
        raise ValueError(f"the noise mask has shape {list(mask.shape)}; give [frames, height, width]")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        low, high = (float(value) for value in mask.aminmax())
        raise ValueError(f"the noise mask has values from {low:g} to {high:g}; it must be 0 (keep) to 1 (sample)")
    rows = mask.float().reshape(-1, 1, *mask.shape[-2:])
    rows = F.interpolate(rows, (height, width), mode="bilinear")  # [N, 1, h, w]
    return rows.repeat(-(-frames // len(rows)), 1, 1, 1)[:frames]
