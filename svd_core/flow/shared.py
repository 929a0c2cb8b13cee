"""The motion that most of a picture shares from one frame to the next: pan, zoom and roll by a robust fit.

Gauss-Newton on blurred luminance, coarse to fine, with the mean gradient of both pictures (ESM: Malis, "Improving
vision-based control using efficient second-order minimization techniques", 2004). Tukey's weights reduce the influence
of objects that move on their own. Changes of brightness and contrast are fitted as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .planes import blur, extent, gradients, inside, lay_out, positions, pyramid, sample

SMALLEST_LEVEL = 16  # shorter side in pixels: a pan of a fifth of the picture is about 3 pixels there
SIGMA = 1.0  # blur of each level in pixels, so that luminance is linear over a step and noise is small
COARSE_STEPS, FINE_STEPS = 10, 6
TUKEY, MAD = 4.685, 1.4826  # 95 % efficiency on Gaussian residuals; standard deviation over median deviation
QUANTUM = 0.5 / 255  # residuals below this are rounding
DAMPING = 1e-4  # of the normal equations, per pixel, so that pictures without texture give no step
LONGEST_STEP = 0.25
PARAMETERS = 6  # scale, turn, x, y, gain, bias


@dataclass(frozen=True)
class Similarity:
    """Motions p -> scale * p + shift of positions as complex numbers, and changes of light, one row per pair.

    scale, shift: [N], complex. gain, bias: [N]; the later picture is about (1 + gain) * earlier + bias.
    """

    scale: Tensor
    shift: Tensor
    gain: Tensor
    bias: Tensor

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return where positions x, y that broadcast to [h, w] move to: two [N, h, w]."""
        (a, b), (dx, dy) = ((part[:, None, None] for part in (z.real, z.imag)) for z in (self.scale, self.shift))
        return a * x - b * y + dx, b * x + a * y + dy

    def inverse(self) -> "Similarity":
        """Return the motion and change of light from the later picture to the earlier."""
        gain = 1 / (1 + self.gain).clamp(min=0.1)
        return Similarity(1 / self.scale, -self.shift / self.scale, gain - 1, -self.bias * gain)

    def after(self, step: Tensor) -> "Similarity":
        """Return this motion after the small motion and change of light `step` [N, 6]."""
        scale = self.scale * torch.complex(1 + step[:, 0], step[:, 1])
        # A fit outside these limits has diverged.
        scale = scale / scale.abs().clamp(min=1e-6) * scale.abs().clamp(0.5, 2.0)
        shift = self.shift + self.scale * torch.complex(step[:, 2], step[:, 3])
        return Similarity(scale, shift, self.gain + step[:, 4], self.bias + step[:, 5])


def fit_similarity(earlier: Tensor, later: Tensor, steps: tuple[int, int] = (COARSE_STEPS, FINE_STEPS)) -> Similarity:
    """Return the motions from pictures `earlier` to `later`, luminance [N, 1, h, w] in 0..1.

    steps: number of steps on each coarser level, and on the finest.
    """
    earlier, later = lay_out(earlier), lay_out(later)
    count, reach = len(earlier), extent(*earlier.shape[-2:])
    zero = earlier.new_zeros(count)
    motion = Similarity(torch.complex(zero + 1, zero), torch.complex(zero, zero), zero, zero)
    levels = list(zip(pyramid(earlier, SMALLEST_LEVEL), pyramid(later, SMALLEST_LEVEL), strict=True))
    for index, (first, second) in enumerate(levels):
        first, second = blur(first, SIGMA), blur(second, SIGMA)
        own = gradients(first)
        for _ in range(steps[index == len(levels) - 1]):
            motion = motion.after(_step(first, second, own, motion, reach))
    return motion


def _step(
    first: Tensor, second: Tensor, own: tuple[Tensor, Tensor], motion: Similarity, reach: tuple[float, float]
) -> Tensor:
    """Return the weighted least-squares step [N, 6]; own: gradients of `first`."""
    x, y = positions(first, reach)
    there = motion.move(x, y)
    moved = sample(second, *there, reach)  # [N, 1, h, w]
    gain, bias = (part[:, None, None, None] for part in (motion.gain, motion.bias))
    residual = (moved - (1 + gain) * first - bias)[:, 0]  # [N, h, w]
    height, width = first.shape[-2:]
    gx, gy = (
        ((mine * (1 + gain) + its) * (side / (4 * edge)))[:, 0]  # mean gradient, per unit of position
        for mine, its, side, edge in zip(own, gradients(moved), (width, height), reach, strict=True)
    )
    shared = torch.ones_like(gx)
    columns = (gx * x + gy * y, gy * x - gx * y, gx, gy, -first[:, 0], -shared)
    jacobian = torch.stack([column.flatten(1) for column in columns], dim=1)  # [N, 6, h*w]
    residual = residual.flatten(1)
    weight = inside(*there, reach).flatten(1)
    weight = weight * _tukey(residual, weight)
    weighted = jacobian * weight[:, None]
    # In double precision on the CPU: some devices lack it, and six unknowns cost nothing.
    matrix = (weighted @ jacobian.transpose(1, 2)).cpu().double()
    matrix += DAMPING * height * width * torch.eye(PARAMETERS, dtype=torch.float64)
    vector = (weighted @ residual[..., None]).cpu().double()
    step = -torch.linalg.solve(matrix, vector)[..., 0]
    return step.clamp(-LONGEST_STEP, LONGEST_STEP).to(first)


def _tukey(residual: Tensor, weight: Tensor) -> Tensor:
    """Return weights [N, P] in 0..1 that fall to 0 for outliers among the residuals [N, P] of a picture."""
    few = residual.abs()[:, ::3]  # enough pixels for a median
    few = few.masked_fill(weight[:, ::3] == 0, torch.nan)
    spread = (MAD * few.nanmedian(dim=1, keepdim=True).values).nan_to_num(1.0).clamp(min=QUANTUM)
    return (1 - (residual / (TUKEY * spread)) ** 2).clamp(min=0) ** 2
