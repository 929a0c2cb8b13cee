"""Preconditioning: turns the raw network into a denoiser D(x; sigma) (spec section 8.1).

Knows nothing of schedules or guidance.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..features import DeepFeatures

if TYPE_CHECKING:
    from ..conditioning import Condition


def scalings(sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `c_skip, c_out, c_in, c_noise` of v-prediction with unit data variance (Salimans & Ho 2022; spec section
    8.1).

    `sigma` is a positive noise level, a number or a tensor of any shape. The results have its shape, in float64 on the
    CPU: float32 would lose c_skip's digits at sigma 700, and some accelerators have no float64.
    """
    s = torch.as_tensor(sigma, dtype=torch.float64, device="cpu")
    bad = s[~(torch.isfinite(s) & (s > 0))]
    if bad.numel():
        raise ValueError(
            f"sigma is {bad[0].item():g}, but a noise level is finite and above 0; denoise at 0.002 or more"
        )
    power = s * s + 1.0
    return 1.0 / power, -s / power.sqrt(), 1.0 / power.sqrt(), s.log() / 4.0


def denoise_with(
    network: Callable[..., Tensor],
    x: Tensor,
    sigma: float | Tensor,
    condition: "Condition",
    *,
    dtype: torch.dtype | None = None,
    features: DeepFeatures | None = None,
) -> Tensor:
    """Return the denoised estimate D(x; sigma) [T, 4, h, w] of the noisy latents `x` [T, 4, h, w] (spec section 8.1).

    `network(input [T, 8, h, w], c_noise [T], context [T, n, D], vector [T, V], num_frames=T)` is the raw UNet; for a
    condition with a region it also gets `region=(vector [T, V], share [T, 1, h, w])`, and `features` where they are
    given. `sigma` is one noise level, or
    one per frame [T]. The conditioning latent is concatenated as it is: c_in belongs to the noisy channels alone.
    Scalars are computed in float64; the state and the result are float32 (float64 if `x` is), never half: early latents
    reach +-3000. `dtype` is what the network computes in (None: as the state); only its input is cast.
    """
    frames = x.shape[0]
    state = x.dtype if x.dtype == torch.float64 else torch.float32
    x = x.to(state)
    sigma = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").reshape(-1)
    if sigma.numel() not in (1, frames):
        raise ValueError(
            f"sigma has {sigma.numel()} values, the clip has {frames} frames; give one value or one per frame"
        )
    # Expanded last: one level for all frames stays recognisable as one.
    per_frame = [c.to(device=x.device, dtype=state).expand(frames) for c in scalings(sigma)]  # 4 x [T]
    c_skip, c_out, c_in = (c.reshape(-1, *[1] * (x.dim() - 1)) for c in per_frame[:3])  # [T, 1, 1, 1]
    row = condition.over_frames(frames).to(x.device)
    _check_sizes(x, row.latent)
    noisy = torch.cat([c_in * x, row.latent.to(state)], dim=1)  # [T, 8, h, w]
    # Only networks that know of regions and features are told of them.
    more = {} if row.region is None else {"region": tuple(part.to(x.device) for part in row.region)}
    if features is not None:
        more["features"] = features
    out = network(noisy.to(dtype or state), per_frame[3], row.token, row.vector, num_frames=frames, **more)
    return c_out * out.to(state) + c_skip * x


def _check_sizes(x: Tensor, latent: Tensor) -> None:
    if x.shape[-2:] != latent.shape[-2:]:
        (h, w), (ch, cw) = x.shape[-2:], latent.shape[-2:]
        raise ValueError(
            f"the noisy latents are {w}x{h} ({8 * w}x{8 * h} pixels), the condition's latent is {cw}x{ch} "
            f"({8 * cw}x{8 * ch} pixels); encode the image at the size of the clip"
        )
