"""Preconditioning: turns the raw network into a denoiser D(x; sigma) (spec section 8.1)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..condition import Condition, DeepFeatures


def scalings(sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `c_skip, c_out, c_in, c_noise` of v-prediction with unit data variance (Salimans & Ho 2022; spec 8.1).

    `sigma` is a positive noise level, a number or a tensor of any shape. The results have its shape, in float64 on the
    CPU: float32 would lose c_skip's digits at sigma 700, and some accelerators have no float64.
    """
    s = torch.as_tensor(sigma, dtype=torch.float64, device="cpu")
    bad = s[~(torch.isfinite(s) & (s > 0))]
    if bad.numel():
        raise ValueError(f"sigma must be finite and above 0 (got {bad[0].item():g}); denoise at 0.002 or more")
    power = s * s + 1.0
    return 1.0 / power, -s / power.sqrt(), 1.0 / power.sqrt(), s.log() / 4.0


def denoise_with(
    network: Callable[..., Tensor],
    x: Tensor,
    sigma: float | Tensor,
    condition: Condition | Sequence[Condition],
    *,
    dtype: torch.dtype | None = None,
    features: DeepFeatures | None = None,
) -> Tensor:
    """Return the denoised estimate D(x; sigma) [T, 4, h, w] of the noisy latents `x` [T, 4, h, w] (spec section 8.1).

    network: the raw UNet, called as `network(input [B*T, 8, h, w], c_noise [B*T], context [T, n, D], vector [B*T, V],
    num_frames=T)`. If a condition has a region, it also gets `region=(vector [B*T, V], share [B*T, 1, h, w])`, and
    if one has adapters, `adapters` with the adapters of each clip.
    sigma: one noise level, or one per frame [T].
    condition: one, or a sequence of B. A sequence gives [B, T, 4, h, w] from one pass over B clips; the context is then
    a tuple with one entry per clip.
    dtype: what the network computes in (None: as the state). Only the network's input is cast.
    features: passed to the network if given.

    The conditioning latent is concatenated unscaled: c_in applies to the noisy channels only. Scalars are computed in
    float64. The state and the result are float32 (float64 if `x` is), never half: early latents reach +-3000.
    """
    frames = x.shape[0]
    state = x.dtype if x.dtype == torch.float64 else torch.float32
    x = x.to(state)
    sigma = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").reshape(-1)
    if sigma.numel() not in (1, frames):
        raise ValueError(
            f"sigma needs 1 value, or 1 per frame (got {sigma.numel()} for {frames} frames); give one or {frames}"
        )
    several = isinstance(condition, (tuple, list))
    conditions = list(condition) if several else [condition]
    rows = [one.over_frames(frames).to(x.device) for one in conditions]
    for row in rows:
        _check_sizes(x, row.latent)
    *scales, c_noise = (c.to(device=x.device, dtype=state) for c in scalings(sigma))  # 4 x [1] or [T]
    c_skip, c_out, c_in = (c.reshape(-1, *[1] * (x.dim() - 1)) for c in scales)  # [1 or T, 1, 1, 1]
    # Expanded last: one level for all frames of all clips stays recognisable as one.
    c_noise = c_noise.expand(frames * len(rows)) if c_noise.numel() == 1 else c_noise.repeat(len(rows))
    scaled = c_in * x
    noisy = _joined([torch.cat([scaled, row.latent.to(state)], dim=1) for row in rows])  # [B*T, 8, h, w]
    vectors = [row.vector for row in rows]
    vector = _joined(vectors)
    if several and _share_vector(conditions, vectors):
        vector = vectors[0][:1].expand(len(noisy), -1)
    # Networks without regions, adapters and features need not accept these keywords.
    more = {} if all(row.region is None for row in rows) else {"region": _regions(rows, x)}
    if any(row.adapters for row in rows):
        more["adapters"] = [row.adapters for row in rows]
    if features is not None:
        more["features"] = features
    context = tuple(row.token for row in rows) if several else rows[0].token
    out = network(noisy.to(dtype or state), c_noise, context, vector, num_frames=frames, **more).to(state)
    if several:
        out = out.unflatten(0, (len(rows), frames))
    return c_out * out + c_skip * x


def _share_vector(conditions: list[Condition], rows: list[Tensor]) -> bool:
    """Return whether all frames of all clips have one vector, as in guidance; `rows` is [T, V] of each clip."""
    if any(len(one.vector) > 1 for one in conditions):
        return False
    first = conditions[0].vector
    pairs = zip(conditions, rows, strict=True)
    return all(one.vector is first or torch.equal(row[0], rows[0][0]) for one, row in pairs)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _regions(rows: list[Condition], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return vector [B*T, V] and share [B*T, 1, h, w] of all regions; a clip without one gets a share of 0."""
    nowhere = x.new_zeros(len(x), 1, *x.shape[-2:])
    vectors, shares = zip(*(row.region or (row.vector, nowhere) for row in rows), strict=True)
    return _joined([part.to(x.device) for part in vectors]), _joined([part.to(x) for part in shares])


def _check_sizes(x: Tensor, latent: Tensor) -> None:
    if x.shape[-2:] != latent.shape[-2:]:
        (h, w), (ch, cw) = x.shape[-2:], latent.shape[-2:]
        raise ValueError(
            f"the condition's latent must have the size of the clip, {w}x{h} latents or {8 * w}x{8 * h} pixels (got "
            f"{cw}x{ch}, {8 * cw}x{8 * ch} pixels); encode the image at the size of the clip"
        )
