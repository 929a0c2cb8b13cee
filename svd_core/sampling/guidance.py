"""Classifier-free guidance with one scale per frame (spec section 8.5): the curves and their use.

Knows no solver and no network.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Guidable(Protocol):
    """A condition that knows its own unconditional form, as `conditioning.Condition` does."""

    def unconditional(self) -> "Guidable": ...


C = TypeVar("C")
D = TypeVar("D", bound=Callable)
Denoiser = Callable[[Tensor, float], Tensor]


def batches_conditions(denoise: D) -> D:
    """Mark a `denoise(x, sigma, condition)` that also takes a sequence of conditions, and answers [B, T, ...].

    Guidance then asks for both branches at once, and the model decides whether they share a pass. What wraps it need
    not offer that: unmarked, it is asked for one branch after the other.
    """
    denoise.batches_conditions = True
    return denoise


def constant_guidance(scale: float, frames: int) -> Tensor:
    """Return the same scale for every frame: [frames], float32."""
    return torch.full((_check_frames(frames),), float(scale))


def linear_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return scales rising evenly from `low` at the first frame to `high` at the last: [frames], float32.

    SVD's own guider (spec section 8.5): frames far from the still need more guidance. A single frame is the first:
    `low`.
    """
    return _curve(lambda t: low + (high - low) * t, frames)


def triangle_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return scales from `low` up to `high` at the middle and back: [frames], float32 (spec section 8.5, one period).

    SV3D's own guider: the back view needs most. An even number of frames does not reach `high`; a single frame is
    `low`.
    """
    return _curve(lambda t: low + (high - low) * 2 * abs(t - math.floor(t + 0.5)), frames)


def trapezoid_guidance(low: float, high: float, frames: int) -> Tensor:
    """Return a ramp over the first tenth, a plateau at `high`, and the ramp mirrored: [frames], float32.

    The official guider sets the plateau to 1, evidently by mistake (spec section 8.5); this one stays at `high`. Under
    10 frames there is no ramp, and all scales are `high`.
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
        raise ValueError("the guidance curve has 0 points, but it needs at least 1; give a scale such as 2.5")
    for i, pair in enumerate(pairs):
        if len(pair) != 2 or not 0 <= pair[0] <= 1 or (i and pair[0] <= pairs[i - 1][0]):
            raise ValueError(
                f"point {i} of the guidance curve is {tuple(pair)}, but points are (position, scale) with positions "
                "rising "
                "from 0 to 1; correct that point"
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
    """Guidance scales [T] (or [1] for all frames), applied while sigma_low <= sigma <= sigma_high, else 1 (no
    guidance).

    The interval follows Kynkaanniemi et al. 2024 ("Applying Guidance in a Limited Interval"); the default is
    everywhere.
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
            raise ValueError("guidance has 0 values, but it needs one, or one per frame; give a scale such as 2.5")
        if not torch.isfinite(scale).all():
            raise ValueError(
                f"guidance has the value {scale[~torch.isfinite(scale)][0].item()}, but scales are finite; use 1 to 4"
            )
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise ValueError(
                f"the guidance interval runs from sigma {self.sigma_low:g} to {self.sigma_high:g}, but it must start "
                "at 0 or "
                "above and not fall; swap the two"
            )

    def over_frames(self, frames: int) -> Tensor:
        """Return the scales [frames]; ValueError where their number does not fit."""
        if len(self.scale) not in (1, frames):
            raise ValueError(
                f"guidance has {len(self.scale)} values, the clip has {frames} frames; give one value, or one per frame"
            )
        return self.scale.expand(frames)


def as_guidance(value: "Guidance | Tensor | Sequence[float] | float") -> Guidance:
    """Return `value` (a scale, scales per frame, or a Guidance already) as a Guidance."""
    return value if isinstance(value, Guidance) else Guidance(torch.as_tensor(value))


def guided_denoiser(
    denoise: Callable[[Tensor, float, C | tuple[C, C]], Tensor],
    condition: C,
    guidance: Guidance | Tensor | Sequence[float] | float,
    *,
    unconditional: C | None = None,
) -> Denoiser:
    """Return `denoiser(x, sigma)` [T, ...] = D_u + w_t (D_c - D_u), guided per frame on the denoised estimates (spec
    8.5).

    The unconditional pass (of `unconditional`, or else of `condition.unconditional()`) is skipped where it cannot
    matter: when every scale is 1, and outside the guidance interval; likewise the conditional pass when every scale is
    0. A `denoise` marked by `batches_conditions` is asked for both at once where both matter.
    """
    guidance = as_guidance(guidance)

    def estimate(x: Tensor, sigma: float, branch: C | tuple[C, C]) -> Tensor:
        # The state keeps its precision, whatever the model answers in.
        return denoise(x, sigma, branch).to(x.dtype)

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        scale = guidance.over_frames(x.shape[0])
        if not guidance.sigma_low <= sigma <= guidance.sigma_high or bool((scale == 1).all()):
            return estimate(x, sigma, condition)
        other = unconditional if unconditional is not None else _unconditional(condition)
        if bool((scale == 0).all()):
            return estimate(x, sigma, other)
        if getattr(denoise, "batches_conditions", False):
            without, given = estimate(x, sigma, (other, condition))
        else:
            without, given = estimate(x, sigma, other), estimate(x, sigma, condition)
        scale = scale.to(x).reshape(-1, *[1] * (x.dim() - 1))  # [T, 1, 1, 1]
        return without + scale * (given - without)

    return denoiser


def _unconditional(condition: C) -> C:
    if not hasattr(condition, "unconditional"):
        raise TypeError(
            f"guidance other than 1 needs an unconditional form, which {type(condition).__name__} lacks; "
            "pass a Condition, or `unconditional`, or guidance 1"
        )
    return condition.unconditional()


def _curve(function: Callable[[float], float], frames: int) -> Tensor:
    last = max(_check_frames(frames) - 1, 1)
    return torch.tensor([function(t / last) for t in range(frames)], dtype=torch.float32)


def _check_frames(frames: int) -> int:
    if frames < 1:
        raise ValueError(
            f"the clip has {frames} frames, but it needs at least 1; use the number the model was trained on, such as "
            "14 or 25"
        )
    return frames
