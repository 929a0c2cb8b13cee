"""Extend clips from their end, in latents: each new chunk starts inside the clip and is held to its last frames.

Passing latents on avoids a round trip through the VAE. Several shared frames, unlike one, carry the motion on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..condition import Condition
from ..networks.vae import LATENT_SCALE
from ..pictures.reading import lay_out
from ..sampling.controls import Control, Run, Start
from ..sampling.guidance import Denoiser
from .colour_lock import Look, LookLock, keep_detail, lock_colour, match_overlap
from .strength import check_share

REPEATED_SIGMAS = (4.0, 40.0)  # where layout forms: adding noise again there lets new frames agree with held ones


@dataclass(frozen=True, eq=False)
class HoldFrames(Control):
    """Hold the first K frames of a clip at `known` [K, 4, h, w], scaled latents.

    The first frame is held down to `sigma`, the last down to `release`, those between in even steps of the logarithm.
    So late frames settle together with the free ones, and there is no step where they meet. Sigmas are for 1024x576.

    repeats: evaluations of each step in the middle of the schedule. Above 1, the noise is added again and the level is
    evaluated again, which costs as many times more there.
    """

    known: Tensor
    sigma: float = 0.3
    release: float = 30.0
    repeats: int = 1

    def begin(self, run: Run, start: Start) -> Start:
        """Start the held frames from their noised latents."""
        held = self._known(run) + run.noise[: len(self.known)] * start.sigmas[0]
        return Start(torch.cat([held, start.x[len(self.known) :]]), start.sigmas)

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Replace the held frames by their latents."""
        known = self._known(run)
        late = torch.linspace(0, 1, len(known)).to(known).reshape(-1, 1, 1, 1)
        levels = run.scale * self.sigma ** (1 - late) * self.release**late
        held = torch.where(sigma > levels, known, estimate[: len(known)])
        return torch.cat([held, estimate[len(known) :]])

    def edit_state(self, run: Run, x: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
        """Evaluate a level in the middle of the schedule several times before its step."""
        low, high = (level * run.scale for level in REPEATED_SIGMAS)
        for _ in range(self.repeats - 1 if low <= sigma <= high else 0):
            x = self.edit_estimate(run, x, sigma, denoise(x, sigma)) + sigma * run.fresh_noise()
        return x

    def _known(self, run: Run) -> Tensor:
        if self.known.shape[1:] != run.noise.shape[1:] or len(self.known) > len(run.noise):
            raise ValueError(
                f"the held frames have shape {list(self.known.shape)}, the clip {list(run.noise.shape)}; hold fewer "
                "frames, of the size of the clip"
            )
        return lay_out(self.known.to(run.noise))


@dataclass(frozen=True)
class Extension:
    """Settings of an extension.

    frames: length of each sampled chunk, best the length that the model was trained on.
    overlap: how many of them are the last frames of the clip.
    anchor: weight of the first picture in the image token of each chunk, 0..1; the rest is the frame that the chunk
    starts from.
    colour_lock: 0 is off, 1 brings colour and contrast all the way back to those of the first clip.
    hold, release: sigmas (for 1024x576) down to which the first and the last frame of the overlap are held.
    repeats: see HoldFrames.
    detail: 0 is off, 1 raises detail back to that of the first clip.
    """

    frames: int
    overlap: int = 4
    anchor: float = 0.5
    colour_lock: float = 0.9
    hold: float = 0.3
    release: float = 30.0
    repeats: int = 1
    detail: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.frames:
            raise ValueError(
                f"chunks of {self.frames} frames can overlap by 1 to {self.frames - 1} (got {self.overlap}); use about "
                f"{max(1, self.frames // 4)}"
            )
        for name, value in (("anchor", self.anchor), ("colour_lock", self.colour_lock), ("detail", self.detail)):
            check_share(name, value, "use 0.5")
        if not 0 <= self.hold <= self.release < math.inf:
            raise ValueError(
                f"the overlap needs 0 <= hold <= release, both finite (got sigma {self.hold:g} and {self.release:g}); "
                "use 0.3 and 30"
            )
        if not 1 <= self.repeats <= 10:
            raise ValueError(f"repeats must be 1 to 10 (got {self.repeats}); use 1 to 3")

    def look(self) -> LookLock:
        """Return the control that continues the colour lock in the decoded frames of the whole clip."""
        return LookLock(self.frames, self.colour_lock, self.overlap)

    def chunks(self, new_frames: int) -> int:
        """Return how many chunks are needed for `new_frames` new frames."""
        return -(-new_frames // (self.frames - self.overlap))


def chunk_condition(
    condition: Condition, latent: Tensor, token_of: Callable[[Tensor], Tensor] | None, anchor: float
) -> Condition:
    """Return the condition of a chunk that starts from the scaled `latent` [1, 4, h, w] of the clip before.

    anchor: weight of the token of `condition` against that of the latent, 0..1.
    """
    last = _last_row(condition)
    token = last.token
    if anchor < 1 and token_of is not None:
        token = blend_tokens(token, token_of(latent).to(token), anchor)
    return replace(last, token=token, latent=(latent / LATENT_SCALE).to(last.latent))


def blend_tokens(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return `share` of the image token `first` [1, n, D] and the rest of `second`, at their average length.

    The plain average of two directions is shorter than either, which the model would take for a less certain picture.
    """
    mixed = torch.lerp(second, first, share)
    lengths = [token.norm(dim=-1, keepdim=True) for token in (first, second, mixed)]
    wanted = torch.lerp(lengths[1], lengths[0], share)
    return mixed * (wanted / lengths[2].clamp(min=1e-12))


def append_chunk(clip: Tensor, chunk: Tensor, anchor: Look, extension: Extension) -> Tensor:
    """Return `clip` followed by the new frames of `chunk`, whose first frames (the overlap) show the end of the clip.

    Over the overlap the chunk fades in along a cosine. Its colour is matched to the clip there, and later frames are
    pulled to the look `anchor`.
    """
    overlap = extension.overlap
    known = clip[-overlap:]
    if extension.colour_lock:
        chunk = match_overlap(chunk, known, extension.colour_lock)
    fade = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(overlap, dtype=torch.float64) / overlap)
    shared = torch.lerp(known, chunk[:overlap], fade.to(known).reshape(-1, 1, 1, 1))
    new = lock_colour(chunk[overlap:], anchor, extension.colour_lock, ramp=overlap)
    new = keep_detail(new, anchor, extension.detail, ramp=overlap)
    return torch.cat([clip[:-overlap], shared, new])


def _last_row(condition: Condition) -> Condition:
    """Return the condition of the last frame, for all frames of the next chunk."""
    return condition.with_parts(lambda part: part[-1:])
