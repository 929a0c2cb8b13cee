"""Noise levels of training: log-normal, a share of them log-uniform, below a limit where a clip has one."""

import math

import torch
from torch import Tensor

from ..sampling.schedules import SIGMA_MAX, SIGMA_MIN


def draw_sigmas(
    count: int,
    generator: torch.Generator,
    *,
    p_mean: float = 0.7,
    p_std: float = 1.6,
    wide_share: float = 0.05,
    limit: Tensor | None = None,
) -> Tensor:
    """Draw noise levels [count], float64, all within 0.002..700 and below `limit` [count] where given.

    ln sigma ~ N(p_mean, p_std^2) (spec section 1.2; research: the mean grows with the size of the picture); a share
    `wide_share` is log-uniform instead, so that the ends of the schedule are seen too. Three numbers are drawn for each
    clip whatever the settings, so that changing them leaves all other random draws alone.
    """
    kind, place, wide_place = torch.rand(3, count, generator=generator, dtype=torch.float64)
    low = torch.full((count,), math.log(SIGMA_MIN), dtype=torch.float64)
    high = torch.full((count,), math.log(SIGMA_MAX), dtype=torch.float64)
    if limit is not None:
        high = torch.minimum(high, limit.double().log().clamp(min=math.log(SIGMA_MIN)))
    # The inverse of the truncated normal distribution keeps its shape below a limit; clamping would pile up there.
    below, above = (torch.special.ndtr((end - p_mean) / p_std) for end in (low, high))
    usual = p_mean + p_std * torch.special.ndtri(below + place * (above - below))
    wide = low + wide_place * (high - low)
    chosen = torch.where(kind < wide_share, wide, usual)
    return torch.minimum(torch.maximum(chosen, low), high).exp()  # rounding at the ends, and infinite quantiles
