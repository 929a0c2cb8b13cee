"""The sampling loop: noise, sigmas, guidance and a solver become latents; a model is `denoise(x, sigma, condition)`."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from .controls import Control, Hooks, Inputs, Run, Start, active_controls
from .guidance import Guidance, as_guidance, guided_estimate
from .noise import NoiseStream
from .schedules import check_sigmas, custom_sigmas
from .solvers import Churn, Setting, Step, make_solver

C = TypeVar("C")


@torch.no_grad()
def sample(
    denoise: Callable[[Tensor, float, C], Tensor],
    noise: Tensor,
    sigmas: Tensor | Sequence[float],
    guidance: Guidance | Tensor | Sequence[float] | float,
    condition: C,
    *,
    solver: str = "euler",
    on_step: Callable[[Step], None] | None = None,
    latent: Tensor | None = None,
    churn: Churn | float = 0.0,
    seed: int = 0,
    unconditional: C | None = None,
    controls: Sequence[Control] = (),
    control_scale: float = 1.0,
    add_noise: bool = True,
) -> Tensor:
    """Return the scaled latents [T, 4, h, w] that `noise` becomes along `sigmas` (spec section 8).

    denoise: the model, such as `SVDModel.denoise`. If marked by `guidance.batches_conditions`, it gets the conditional
    and the unconditional condition in one call. If it is a method, `remedy_for_nan` of its object says what to do about
    latents that are not finite.
    noise: standard normal [T, 4, h, w]. The state has its device and is float32, or float64 if the noise is.
    guidance: one scale, [T] scales, or a Guidance.
    latent: scaled [T, 4, h, w], or one frame, to start from an existing clip: the state is then latent + noise * sigma
    instead of noise * sqrt(1 + sigma^2).
    seed: for stochastic solvers only (churn, "lcm").
    unconditional: replaces `condition.unconditional()`.
    on_step: called with a Step after each step; an exception raised in it stops the sampling.
    controls: steer the sampling, one after the other at each hook. control_scale: that of the model
    (`SVDConfig.control_scale`).
    add_noise: False for a `latent` that still has the noise of the first sigma, from a run that ended there; the state
    is then the latent itself, and `noise` should be that of the first run.
    """
    sigmas = custom_sigmas(sigmas)
    guidance = as_guidance(guidance)
    used = active_controls(controls)
    for control in used:
        noise = control.edit_noise(noise, seed)
    x = _start(noise.contiguous(), float(sigmas[0]), latent, add_noise)
    guidance.over_frames(len(x))
    _check_condition(condition, x)
    stream = NoiseStream(x, seed)
    inputs = Inputs(condition, unconditional, guidance)
    run = Run(noise.to(x), tuple(sigmas.tolist()), inputs, stream, control_scale=control_scale)
    hooks = Hooks(used, run, partial(_evaluate, denoise))
    x, levels = hooks.begin(Start(x, sigmas.tolist()))
    check_sigmas(torch.tensor(levels, dtype=torch.float64))
    steps = len(levels) - 1
    churn = churn if isinstance(churn, Churn) else Churn(churn)
    method = make_solver(solver, Setting(steps, churn, stream))
    if used:
        denoiser = partial(hooks.denoise, edited=True)
    else:
        denoiser = partial(
            guided_estimate, denoise, condition=condition, guidance=guidance, unconditional=unconditional
        )
    for i, (sigma, sigma_next) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        x, denoised = method.step(denoiser, x, sigma, sigma_next)
        x = hooks.after_step(x, sigma_next)
        if not torch.isfinite(x).all():
            raise ValueError(
                f"step {i + 1} of {steps} (sigma {sigma:g}) gave NaN or infinite latents; {_remedy_for_nan(denoise)}"
            )
        if on_step is not None:
            on_step(Step(i, steps, sigma, denoised, x))
    return x


def _remedy_for_nan(denoise: Callable) -> str:
    """Return what to do about latents that are not finite; a model knows its weights and its precision."""
    find = getattr(getattr(denoise, "__self__", None), "remedy_for_nan", None)
    return find() if find is not None else "use float32 weights that are finite, or lower the guidance"


def _evaluate(denoise: Callable[[Tensor, float, C], Tensor], x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
    """Return the guided estimate of `x` under everything that controls may have changed."""
    condition, features = inputs.condition, inputs.features
    model = denoise if features is None else features.through(denoise, condition)
    return guided_estimate(model, x, sigma, condition, inputs.guidance, inputs.unconditional)


def _start(noise: Tensor, sigma: float, latent: Tensor | None, add_noise: bool) -> Tensor:
    """Return the state at the first sigma (spec section 8.3)."""
    if not noise.dim() or not len(noise):
        raise ValueError(
            f"noise must have at least 1 frame (got shape {list(noise.shape)}); use 14 for SVD or 25 for SVD-XT"
        )
    if not torch.isfinite(noise).all():
        raise ValueError("the noise has NaN or infinite values; draw it with start_noise(frames, h, w, seed)")
    noise = noise if noise.dtype == torch.float64 else noise.to(torch.float32)
    if latent is None and not add_noise:
        raise ValueError("sampling without added noise needs a noisy latent to start from; add noise, or give a latent")
    if latent is None:
        return noise * math.sqrt(1 + sigma**2)
    if latent.shape[1:] != noise.shape[1:] or len(latent) not in (1, len(noise)):
        raise ValueError(
            f"the start latent must be like the noise, {list(noise.shape)}, or one such frame (got "
            f"{list(latent.shape)}); encode it at the size of the clip"
        )
    latent = latent.to(noise).contiguous()
    if not torch.isfinite(latent).all():
        raise ValueError("the start latent has NaN or infinite values; decode it to check the clip it came from")
    return latent + noise * sigma if add_noise else latent.expand_as(noise).contiguous()


def _check_condition(condition: C, x: Tensor) -> None:
    """Raise ValueError for a mismatch before the first step rather than inside the network."""
    for name in ("token", "latent", "vector"):
        part = getattr(condition, name, None)
        if not isinstance(part, Tensor):
            continue
        if len(part) not in (1, len(x)):
            raise ValueError(
                f"the condition's {name} needs 1 frame or {len(x)} (got {len(part)}); give one for all frames, or one "
                "per frame"
            )
        if not torch.isfinite(part).all():
            raise ValueError(f"the condition's {name} has NaN or infinite values; check the image it was encoded from")
    latent = getattr(condition, "latent", None)
    if isinstance(latent, Tensor) and latent.shape[-2:] != x.shape[-2:]:
        (h, w), (ch, cw) = x.shape[-2:], latent.shape[-2:]
        raise ValueError(
            f"the condition's latent must have the size of the noise, {w}x{h} latents or {8 * w}x{8 * h} pixels (got "
            f"{cw}x{ch}, {8 * cw}x{8 * ch} pixels); encode the image at the size of the clip"
        )
