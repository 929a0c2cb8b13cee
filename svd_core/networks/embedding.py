"""Sinusoidal embedding of scalars, the one formula that the whole model uses (spec section 3.1)."""

import math

import torch
from torch import Tensor


def sinusoidal_embedding(values: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed scalars as [cos(v f_0).., sin(v f_0)..], f_i = max_period^(-i / half), in float32.

    values: [N], any real numbers (c_noise is negative for small sigma). dim: even width of the result.
    Returns [N, dim] float32. Half precision would lose the phase of large values, hence the fixed float32.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(steps * (-math.log(max_period) / half))
    angles = values.float()[:, None] * frequencies[None]  # [N, half]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)  # [N, dim]
