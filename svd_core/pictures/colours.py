"""Match the colours of every frame of a clip to one picture, against the colour drift of long clips."""

import torch
from torch import Tensor

from .reading import lay_out

METHODS = ("mean and contrast", "linear")
LIMIT = 2.0  # largest gain of a colour axis; its inverse is the smallest, so a fade to black does not become noise
FLOOR = 0.01  # standard deviation in 0..1 added to every statistic, so that plain frames do not divide by zero


def match_colours(
    frames: Tensor,
    reference: Tensor | None = None,
    *,
    strength: float = 0.5,
    method: str = METHODS[0],
    ramp: int = 0,
    smoothing: float = 0.0,
) -> Tensor:
    """Return `frames` [T, H, W, 3] in 0..1 with the colour statistics of `reference` [1, h, w, 3], or of frame 0.

    method: "mean and contrast" matches mean and standard deviation of each channel. "linear" matches the mean and the
    covariance of all three channels (Monge-Kantorovich; Pitie and Kokaram 2007).
    strength: 0..1, the share of the correction that is applied. 0 returns `frames` itself.
    ramp: number of frames over which the strength grows from 0 at the first frame.
    smoothing: 0..1, below 1. Each frame's correction is averaged with those of its neighbours, whose weights fall by
    this factor per frame. Objects that enter and leave then cause no flicker; a steady drift is corrected as before.
    Raises ValueError for tensors of another shape, NaN, and numbers outside these ranges.
    """
    _check(frames, reference, strength, method, ramp, smoothing)
    if strength == 0:
        return frames
    frames = lay_out(frames)
    target = frames[:1] if reference is None else lay_out(reference[:1])
    target_mean, target_covariance = _statistics(target[0])
    gains, offsets = [], []
    for frame in frames:
        mean, covariance = _statistics(frame)
        gain = _gain(covariance, target_covariance, method)  # [3, 3]
        gains.append(gain)
        offsets.append(target_mean - gain @ mean)
    kernel = _smoothing_kernel(len(frames), smoothing)  # [T, T]
    gain, offset = kernel @ torch.stack(gains).flatten(1), kernel @ torch.stack(offsets)  # [T, 9], [T, 3]
    weights = [strength * min(t / ramp, 1.0) if ramp else strength for t in range(len(frames))]
    matched = torch.empty_like(frames)
    for t, frame in enumerate(frames):
        changed = frame @ gain[t].reshape(3, 3).T.to(frame) + offset[t].to(frame)
        matched[t] = torch.lerp(frame, changed, weights[t]).clamp(0, 1)
    return matched


def _smoothing_kernel(frames: int, smoothing: float) -> Tensor:
    """Return the weights [T, T], float64, of all frames' corrections (columns) in each frame's (rows).

    The corrections are extended beyond both ends by point reflection. The first and last stay as they are, and a
    correction that grows evenly is not changed.
    """
    last = frames - 1
    kernel = torch.zeros(frames, frames, dtype=torch.float64)
    for t in range(frames):
        for index in range(t - last, t + last + 1):
            weight = smoothing ** abs(t - index)
            end = min(max(index, 0), last)
            if index != end:  # point reflection: twice the value at the end, minus the mirrored one
                kernel[t, end] += 2 * weight
                kernel[t, 2 * end - index] -= weight
            else:
                kernel[t, index] += weight
    return kernel / kernel.sum(1, keepdim=True)


def _statistics(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [3] and covariance [3, 3] of the colours of [H, W, 3], float64 on the CPU."""
    pixels = frame.reshape(-1, 3).cpu().double()  # some accelerators have no float64
    mean = pixels.mean(0)
    centred = pixels - mean
    covariance = centred.T @ centred / len(pixels) + FLOOR**2 * torch.eye(3, dtype=torch.float64)
    return mean, covariance


def _gain(covariance: Tensor, target: Tensor, method: str) -> Tensor:
    """Return the symmetric matrix [3, 3] that maps one covariance to the other, its gains within LIMIT."""
    if method == METHODS[0]:
        return torch.diag((target.diagonal() / covariance.diagonal()).sqrt().clamp(1 / LIMIT, LIMIT))
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    gain = inverse @ _power(root @ target @ root, 0.5) @ inverse
    values, axes = torch.linalg.eigh((gain + gain.T) / 2)
    return axes @ torch.diag(values.clamp(1 / LIMIT, LIMIT)) @ axes.T


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a symmetric positive matrix."""
    values, axes = torch.linalg.eigh((matrix + matrix.T) / 2)
    return axes @ torch.diag(values.clamp(min=1e-12) ** exponent) @ axes.T


def _check(frames: Tensor, reference: Tensor | None, strength: float, method: str, ramp: int, smoothing: float) -> None:
    for name, clip in (("frames", frames), ("reference", reference)):
        if clip is None:
            continue
        if clip.ndim != 4 or clip.shape[-1] != 3 or not clip.numel():
            raise ValueError(f"{name} has shape {list(clip.shape)}; give RGB frames [T, height, width, 3] in 0..1")
        if not bool(torch.isfinite(clip).all()):
            raise ValueError(f"{name} has NaN or infinite values; check the node that made it")
    if method not in METHODS:
        raise ValueError(f"colour match method {method!r} is unknown; use {' or '.join(METHODS)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength of the colour match must be 0 to 1 (got {strength:g}); use 0.5")
    if ramp < 0:
        raise ValueError(f"ramp of the colour match must be 0 or more (got {ramp} frames); use 0 to 4")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be at least 0 and below 1 (got {smoothing:g}); use 0 to 0.8")
