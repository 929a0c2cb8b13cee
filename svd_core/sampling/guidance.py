"""Classifier-free guidance with one scale per frame (spec section 8.5): curves over the clip and the estimate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Guidable(Protocol):
    """A condition with an unconditional form, such as `condition.Condition`."""

    def unconditional(self) -> "Guidable": ...


C = TypeVar("C")
D = TypeVar("D", bound=Callable)
Denoiser = Callable[[Tensor, float], Tensor]


def batches_conditions(denoise: D) -> D:
    """Mark a `denoise(x, sigma, condition)` that also takes a tuple of conditions and returns [B, T, ...].

    Guidance then passes both conditions in one call, and the model decides whether they share a pass. A function
    without the mark is called once per condition.
    """
    denoise.batches_conditions = True
    return denoise


def constant_guidance(scale: float, frames: int) -> Tensor:
    """Return the same scale for every frame: [frames], float32."""
    return torch.full((_check_frames(frames),), float(scale))


def linear_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return scales rising evenly from `low` at the first frame to `high` at the last: [frames], float32.

    This is SVD's own guider (spec section 8.5): frames far from the still need more guidance. A single frame gets
    `low`.
    """
    return _curve(lambda t: low + (high - low) * t, frames)


def triangle_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return scales from `low` up to `high` at the middle and back: [frames], float32 (spec section 8.5, one period).

    This is SV3D's own guider: the back view needs most. An even number of frames does not reach `high`; a single
    frame gets `low`.
    """
    return _curve(lambda t: low + (high - low) * 2 * abs(t - math.floor(t + 0.5)), frames)


def trapezoid_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return a ramp over the first tenth, a plateau at `high`, and the ramp mirrored: [frames], float32.

    The official guider sets the plateau to 1, evidently by mistake (spec section 8.5); this one stays at `high`.
    Below 10 frames there is no ramp, and all scales are `high`.
    """
    ramp = linear_guidance(low, high, frames // 10) if _check_frames(frames) >= 10 else torch.zeros(0)
    return torch.cat([ramp, constant_guidance(high, frames - 2 * len(ramp)), ramp.flip(0)])


def cosine_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return scales easing along half a cosine from `low` (first frame) to `high` (last): [frames], float32."""
    return _curve(lambda t: low + (high - low) * (1 - math.cos(math.pi * t)) / 2, frames)


def custom_guidance(points: Sequence[float] | Sequence[tuple[float, float]], frames: int) -> Tensor:
    """Return the curve through `points`, linear between them: [frames], float32.

    Points are scales spread evenly over the clip, or pairs (position, scale) with positions rising from 0 (first frame)
    to 1 (last frame); outside the given positions the nearest scale holds. A single frame is at position 0.
    """
    pairs = [p if isinstance(p, Sequence) else (i / max(len(points) - 1, 1), p) for i, p in enumerate(points)]
    if not pairs:
        raise ValueError("the guidance curve needs at least 1 point (got 0); use a scale such as 2.5")
    for i, pair in enumerate(pairs):
        if len(pair) != 2 or not 0 <= pair[0] <= 1 or (i and pair[0] <= pairs[i - 1][0]):
            raise ValueError(
                f"point {i} of the guidance curve is {tuple(pair)}; positions must rise from 0 (first frame) to 1 "
                "(last frame), such as (0.5, 2.5)"
            )

    def at(t: float) -> float:
        right = next((i for i, (position, _) in enumerate(pairs) if position >= t), len(pairs))
        if right == 0 or right == len(pairs):
            return pairs[min(right, len(pairs) - 1)][1]
        (t0, v0), (t1, v1) = pairs[right - 1], pairs[right]
        return v0 + (v1 - v0) * (t - t0) / (t1 - t0)

    return _curve(at, frames)


GUIDANCE_SHAPES: dict[str, Callable[[float, float, int], Tensor]] = {
    "linear": linear_guidance,
    "constant": lambda low, high, frames: constant_guidance(high, frames),
    "triangle": triangle_guidance,
    "trapezoid": trapezoid_guidance,
    "cosine": cosine_guidance,
}


def guidance_curve(shape: str, low: float, high: float, frames: int) -> Tensor:
    """Return the curve named `shape` (a key of GUIDANCE_SHAPES): [frames], float32.

    A constant curve is `high` everywhere.
    """
    if shape not in GUIDANCE_SHAPES:
        raise ValueError(f"the guidance shape {shape!r} is unknown; use one of {', '.join(GUIDANCE_SHAPES)}")
    return GUIDANCE_SHAPES[shape](low, high, frames)


@dataclass(frozen=True, eq=False)
class Guidance:
    """Guidance scales [T] (or [1] for all frames), applied while sigma_low <= sigma <= sigma_high, else 1.

    The interval follows Kynkaanniemi et al. 2024 ("Applying Guidance in a Limited Interval"); the default covers every
    sigma.
    """

    scale: Tensor
    sigma_low: float = 0.0
    sigma_high: float = math.inf

    def __post_init__(self) -> None:
        scale = torch.as_tensor(self.scale).detach().reshape(-1)
        if scale.dtype != torch.float64:
            scale = scale.to(torch.float32)
        object.__setattr__(self, "scale", scale.cpu())
        if not len(scale):
            raise ValueError("guidance needs one value, or one per frame (got 0 values); use a scale such as 2.5")
        if not torch.isfinite(scale).all():
            raise ValueError(f"guidance must be finite (got {scale[~torch.isfinite(scale)][0].item()}); use 1 to 4")
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise ValueError(
                f"the guidance interval must rise from 0 or above (got {self.sigma_low:g} to {self.sigma_high:g}); "
                "swap the two"
            )

    def over_frames(self, frames: int) -> Tensor:
        """Return the scales [frames]; ValueError where their number does not fit."""
        if len(self.scale) not in (1, frames):
            raise ValueError(
                f"guidance needs 1 value, or 1 per frame (got {len(self.scale)}); give one scale or {frames}"
            )
        return self.scale.expand(frames)


def as_guidance(value: "Guidance | Tensor | Sequence[float] | float") -> Guidance:
    """Return `value` (a scale, scales per frame, or a Guidance already) as a Guidance."""
    return value if isinstance(value, Guidance) else Guidance(torch.as_tensor(value))


def guided_estimate(
    denoise: Callable[[Tensor, float, C | tuple[C, C]], Tensor],
    x: Tensor,
    sigma: float,
    condition: C,
    guidance: Guidance,
    unconditional: C | None = None,
) -> Tensor:
    """Return D_u + w_t (D_c - D_u) [T, ...], guided per frame on the denoised estimates (spec section 8.5).

    Without `unconditional` it is `condition.unconditional()`. The unconditional pass is skipped where every scale is 1
    and outside the guidance interval, the conditional pass where every scale is 0. A `denoise` marked by
    `batches_conditions` gets both conditions in one call. The estimate has the dtype of `x`.
    """
    scale = guidance.over_frames(len(x))
    if not guidance.sigma_low <= sigma <= guidance.sigma_high or bool((scale == 1).all()):
        return denoise(x, sigma, condition).to(x.dtype)
    if unconditional is None:
        unconditional = _unconditional(condition)
    if bool((scale == 0).all()):
        return denoise(x, sigma, unconditional).to(x.dtype)
    if getattr(denoise, "batches_conditions", False):
        uncond, cond = denoise(x, sigma, (unconditional, condition)).to(x.dtype)
    else:
        uncond = denoise(x, sigma, unconditional).to(x.dtype)
        cond = denoise(x, sigma, condition).to(x.dtype)
    scale = scale.to(x).reshape(-1, *[1] * (x.dim() - 1))  # [T, 1, 1, 1]
    return uncond + scale * (cond - uncond)


def _unconditional(condition: C) -> C:
    if not hasattr(condition, "unconditional"):
        raise TypeError(
            f"guidance other than 1 needs an unconditional condition, which {type(condition).__name__} cannot give; "
            "pass a Condition, or `unconditional`, or guidance 1"
        )
    return condition.unconditional()


def _curve(function: Callable[[float], float], frames: int) -> Tensor:
    last = max(_check_frames(frames) - 1, 1)
    return torch.tensor([function(t / last) for t in range(frames)], dtype=torch.float32)


def _check_frames(frames: int) -> int:
    if frames < 1:
        raise ValueError(f"a clip needs at least 1 frame (got {frames}); use 14 for SVD or 25 for SVD-XT")
    return frames
