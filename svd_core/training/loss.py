"""The EDM loss of spec section 1.2 in velocity form, the noise levels it is taken at, and dropped conditions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..sampling.denoiser import scalings
from ..sampling.schedules import SIGMA_MAX, SIGMA_MIN
from .data.samples import TrainingBatch
from .settings import TrainSettings


def drop_conditions(batch: TrainingBatch, settings: TrainSettings, generator: torch.Generator) -> TrainingBatch:
    """Return the batch with tokens, conditioning latents or both zeroed in some clips, by the settings' chances."""
    chance = torch.rand(len(batch), generator=generator, dtype=torch.float64)
    token_end = settings.drop_token
    latent_end = token_end + settings.drop_latent
    both_end = latent_end + settings.drop_both
    if not both_end:
        return batch
    both = (chance >= latent_end) & (chance < both_end)
    keep_token = ~((chance < token_end) | both)
    keep_latent = ~((chance >= token_end) & (chance < both_end))
    token = batch.token * keep_token.to(batch.token)[:, None]
    concat = batch.concat * keep_latent.to(batch.concat)[:, None, None, None]
    return TrainingBatch(batch.latent, concat, token, batch.vector, batch.sigma_limit, batch.strength)


def velocity_losses(
    network: Callable[..., Tensor],
    batch: TrainingBatch,
    sigma: Tensor,
    noise: Tensor,
    dtype: torch.dtype,
    mean_weight: float = 0.0,
) -> Tensor:
    """Return one loss per clip [B]: the mean square of F minus the velocity (Salimans & Ho 2022).

    sigma: [B] float64 on the CPU; noise: as batch.latent, standard normal. `network` is the raw UNet, whose input is
    cast to `dtype`. With x = z + s e, the loss ((s^2 + 1) / s^2) (D - z)^2 of spec section 1.2 is (F - v)^2 for
    v = (e - s z) / sqrt(s^2 + 1). This form avoids the division by s, which loses digits at low noise. `mean_weight`
    times the mean square of each frame's mean of F - v, per channel, is added.
    """
    z = batch.latent
    _, _, c_in, c_noise = (value.to(z) for value in scalings(sigma))  # [B]
    s, c_in = (value.reshape(-1, 1, 1, 1, 1) for value in (sigma.to(z), c_in))
    frames = z.shape[1]
    entry = torch.cat([(z + s * noise) * c_in, batch.concat[:, None].expand_as(z)], dim=2)  # [B, T, 8, h, w]
    rows = (value.repeat_interleave(frames, 0) for value in (c_noise, batch.token[:, None], batch.vector))
    out = network(entry.flatten(0, 1).to(dtype), *rows, num_frames=frames).float()
    target = (noise - s * z) * c_in
    error = out.unflatten(0, (-1, frames)) - target
    losses = error.square().mean((1, 2, 3, 4))
    if mean_weight:
        losses = losses + mean_weight * error.mean((3, 4)).square().mean((1, 2))
    return losses


def draw_sigmas(
    count: int,
    generator: torch.Generator,
    *,
    p_mean: float = 0.7,
    p_std: float = 1.6,
    wide_share: float = 0.05,
    limit: Tensor | None = None,
) -> Tensor:
    """Return random noise levels [count], float64, within 0.002..700 and at most `limit` [count] where given.

    ln sigma ~ N(p_mean, p_std^2) (spec section 1.2). A share `wide_share` is log-uniform instead, so that the ends of
    the schedule are trained too. Three numbers are drawn for each clip whatever the settings, so that a change of the
    settings does not change other random draws.
    """
    kind, place, wide_place = torch.rand(3, count, generator=generator, dtype=torch.float64)
    low = torch.full((count,), math.log(SIGMA_MIN), dtype=torch.float64)
    high = torch.full((count,), math.log(SIGMA_MAX), dtype=torch.float64)
    if limit is not None:
        high = torch.minimum(high, limit.double().log().clamp(min=math.log(SIGMA_MIN)))
    # The inverse of the truncated normal distribution keeps its shape below a limit; clamping would pile values up.
    below, above = (torch.special.ndtr((end - p_mean) / p_std) for end in (low, high))
    usual = p_mean + p_std * torch.special.ndtri(below + place * (above - below))
    wide = low + wide_place * (high - low)
    chosen = torch.where(kind < wide_share, wide, usual)
    return torch.minimum(torch.maximum(chosen, low), high).exp()  # rounding at the ends, and infinite quantiles
