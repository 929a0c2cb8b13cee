"""Inversion: the noise that the model itself would turn into a source clip, as the start of a changed one.

After Videoshop (Fan et al. 2024, arXiv 2403.14617). The steps of Euler's method are undone from low noise to high with
the first frame of the source as the condition; sampling then goes down again with the edited one. A step upwards needs
the estimate at its upper end, which is not known yet. It is taken where a straight line from the clean clip leads to
(noise extrapolation), because paths of the model are nearly straight. One pass per level, and one for each correction.

What was edited is added to the inverted clip along its motion, as in `source_clip`: the noise stays that of the source,
so that what was not edited comes out as it was, also where much is denoised.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..networks.vae import LATENT_SCALE
from ..pictures.fitting import FitMode
from ..pictures.reading import lay_out
from ..sampling.controls import Denoise, Inputs, Run, Start
from ..sampling.guidance import Denoiser
from .driving_clip import Clip
from .signal import Signal, SignalControl, encode_frames
from .source_clip import DENOISE, SOURCE_SIGMA, shown_frames
from .strength import check_share

CORRECTIONS = 1  # more evaluations of each level, at the state that the first one led to


def invert(
    denoise: Denoiser, latents: Tensor, noise: Tensor, levels: list[float], corrections: int = CORRECTIONS
) -> Tensor:
    """Return the state at levels[0] from which Euler's method reaches `latents` [T, 4, h, w].

    levels: the descending noise levels of the sampling; a 0 at the end is left out, because noise of the last level
    above it stands for none. noise: standard normal, of that level.
    """
    rising = [level for level in reversed(levels) if level > 0]
    x = latents + rising[0] * noise
    for low, high in zip(rising[:-1], rising[1:], strict=True):
        ratio = high / low
        at = latents + (x - latents) * ratio
        # The state x' solves x' = D(x') + (x - D(x')) ratio. Newton's step, with the slope of D for data of unit
        # deviation; without it corrections run away where noise is low and D nearly keeps what it is given.
        share = 1 / (1 + (ratio - 1) / (1 + high**2))
        for number in range(1 + corrections):
            estimate = denoise(at, high)
            wanted = estimate + (x - estimate) * ratio
            at = wanted if number == 0 and not corrections else at + share * (wanted - at)
        x = at
    return x


@dataclass(frozen=True, eq=False)
class InvertedSource(SignalControl):
    """Start from the noise of a source clip with what was edited in it, and hold frame 0 at the picture.

    signal: the frames of the source with the edit; frame 0 is the picture. source: scaled latents [T, 4, h, w] of the
    frames as they are; None takes those of the signal. token: image token [1, n, D] of its first frame, which is the
    condition while it is inverted; None keeps that of the picture. strength 0 inverts up to the first noise level, 1 up
    to `sigma`.
    """

    source: Tensor | None = None
    token: Tensor | None = None
    sigma: float = SOURCE_SIGMA

    @property
    def active(self) -> bool:
        """Always: without strength, the whole schedule is inverted."""
        return True

    def begin(self, run: Run, start: Start) -> Start:
        """Skip the levels above the start."""
        return self._start_at(run, start, self.level(run, self.sigma))

    def edit_start(self, run: Run, x: Tensor, denoise: Denoise) -> Tensor:
        """Replace the state by the inverted source."""
        wanted, _ = self.signal.on(run)
        latents = wanted if self.source is None else lay_out(self.source.to(x))
        inputs = _described(run.inputs, latents[:1], self.token)
        found = invert(lambda at, sigma: denoise(at, sigma, inputs), latents, run.noise, list(run.levels))
        return found + (wanted - latents)


@torch.no_grad()
def inverted_control(
    encode: Callable[[Tensor], Tensor],
    encode_image: Callable[[Tensor], Tensor],
    signal: Signal,
    clip: Clip,
    denoise: float = DENOISE,
    *,
    fit_mode: FitMode = "crop",
) -> InvertedSource:
    """Return the control that starts from the inverted source `clip` [N, H, W, C] with the edit of `signal`.

    encode, encode_image: return the unscaled latent and the token of a picture [1, 3, 8h, 8w] in -1..1. signal: from
    `source_clip.source_signal` of the same clip. denoise: share of the sampling that is inverted and done again, 0 to
    1; 1 inverts all of it.
    """
    check_share("the denoising of a source clip", denoise, f"use {DENOISE:g}")
    frames, _, h, w = signal.latents.shape
    shown = shown_frames(clip, frames, 8 * w, 8 * h, fit_mode)
    strength = (1 - denoise) / (1 - DENOISE)
    return InvertedSource(signal, strength, source=encode_frames(encode, shown), token=encode_image(shown[:1]))


def _described(inputs: Inputs, first: Tensor, token: Tensor | None) -> Inputs:
    """Return inputs without guidance whose picture is the first frame of the source [1, 4, h, w], scaled."""
    condition = inputs.condition
    if isinstance(getattr(condition, "latent", None), Tensor):
        condition = replace(condition, latent=(first / LATENT_SCALE).to(condition.latent))
        condition = condition if token is None else replace(condition, token=token.to(condition.token))
    scale = torch.ones_like(inputs.guidance.scale)
    return inputs._replace(condition=condition, guidance=replace(inputs.guidance, scale=scale))
