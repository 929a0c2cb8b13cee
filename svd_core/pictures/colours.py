"""Evens out the colours of a finished clip: every frame is matched to one picture. Knows pixels, no latents."""

import torch
from torch import Tensor

from .reading import lay_out

METHODS = ("mean and contrast", "linear")
LIMIT = 2.0  # no colour axis is stretched or squeezed more, so that a fade to black does not become noise
FLOOR = 0.01  # deviation in 0..1 that is added to all, so that plain frames do not divide by zero


def match_colours(
    frames: Tensor,
    reference: Tensor | None = None,
    *,
    strength: float = 0.5,
    method: str = METHODS[0],
    ramp: int = 0,
    smoothing: float = 0.0,
) -> Tensor:
    """Return `frames` [T, H, W, 3] in 0..1 with the colour statistics of `reference` [1, h, w, 3], or else of frame 0.

    method: "mean and contrast" matches mean and deviation of each channel, "linear" all three channels together with
    their covariances (Monge-Kantorovich; Pitie and Kokaram 2007). strength 0..1: how far to go; 0 returns the very
    input. ramp: frames over which the strength grows, from 0 at the first. smoothing 0..1, below 1: how much the
    correction of a frame is averaged with those of its neighbours (weights fall by this factor from frame to frame), so
    that what things that come and go do to the statistics does not flicker; a steady drift is corrected all the same.
    """
    _check(frames, reference, strength, method, ramp, smoothing)
    if strength == 0:
        return frames
    frames = lay_out(frames)
    wanted = frames[:1] if reference is None else lay_out(reference[:1])
    wanted_mean, wanted_spread = _statistics(wanted[0])
    gains, offsets = [], []
    for frame in frames:
        mean, spread = _statistics(frame)
        gain = _gain(spread, wanted_spread, method)  # [3, 3]
        gains.append(gain)
        offsets.append(wanted_mean - gain @ mean)
    kernel = _smoothing_kernel(len(frames), smoothing)  # [T, T]
    gain, offset = kernel @ torch.stack(gains).flatten(1), kernel @ torch.stack(offsets)
    weights = [strength * min(t / ramp, 1.0) if ramp else strength for t in range(len(frames))]
    matched = torch.empty_like(frames)
    for t, frame in enumerate(frames):
        changed = frame @ gain[t].reshape(3, 3).T.to(frame) + offset[t].to(frame)
        matched[t] = torch.lerp(frame, changed, weights[t]).clamp(0, 1)
    return matched


def _smoothing_kernel(frames: int, smoothing: float) -> Tensor:
    """Weights [T, T] of all corrections in that of each frame, float64.

    Beyond both ends the corrections go on point-symmetrically, so that the first stays what it is and even changes are
    kept.
    """
    last = frames - 1
    kernel = torch.zeros(frames, frames, dtype=torch.float64)
    for t in range(frames):
        for place in range(t - last, t + last + 1):
            weight = smoothing ** abs(t - place)
            end = min(max(place, 0), last)
            if place != end:  # the value there is that of the end twice, less its mirror image
                kernel[t, end] += 2 * weight
                kernel[t, 2 * end - place] -= weight
            else:
                kernel[t, place] += weight
    return kernel / kernel.sum(1, keepdim=True)


def _statistics(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3] and covariance [3, 3] of the colours of [H, W, 3], float64 on the CPU."""
    pixels = frame.reshape(-1, 3).double()
    mean = pixels.mean(0)
    centred = pixels - mean
    covariance = centred.T @ centred / len(pixels) + FLOOR**2 * torch.eye(3, dtype=torch.float64, device=pixels.device)
    return mean.cpu(), covariance.cpu()


def _gain(spread: Tensor, wanted: Tensor, method: str) -> Tensor:
    """The symmetric [3, 3] that turns one covariance into the other, within LIMIT."""
    if method == METHODS[0]:
        return torch.diag((wanted.diagonal() / spread.diagonal()).sqrt().clamp(1 / LIMIT, LIMIT))
    root, inverse = _power(spread, 0.5), _power(spread, -0.5)
    gain = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    values, axes = torch.linalg.eigh((gain + gain.T) / 2)
    return axes @ torch.diag(values.clamp(1 / LIMIT, LIMIT)) @ axes.T


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, axes = torch.linalg.eigh((matrix + matrix.T) / 2)
    return axes @ torch.diag(values.clamp(min=1e-12) ** exponent) @ axes.T


def _check(frames: Tensor, reference: Tensor | None, strength: float, method: str, ramp: int, smoothing: float) -> None:
    for name, clip in (("frames", frames), ("reference", reference)):
        if clip is None:
            continue
        if clip.ndim != 4 or clip.shape[-1] != 3 or not clip.numel():
            raise ValueError(f"the {name} have shape {list(clip.shape)}; give colours, [T, height, width, 3] in 0..1")
        if not bool(torch.isfinite(clip).all()):
            raise ValueError(f"the {name} have NaN or infinite values; check the node that made them")
    if method not in METHODS:
        raise ValueError(f"the colour match {method!r} is unknown; use one of {', '.join(METHODS)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of the colour match is {strength:g}, but it must be from 0 to 1; use 0.5")
    if ramp < 0:
        raise ValueError(f"the colour match ramps over {ramp} frames, but it must be 0 or more; use 0 to 4")
    if not 0 <= smoothing < 1:
        raise ValueError(f"the smoothing is {smoothing:g}, but it must be at least 0 and below 1; use 0 to 0.8")
