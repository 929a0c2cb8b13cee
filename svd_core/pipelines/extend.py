"""Clips continued from their end, chunk by chunk, for every clip of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.colour_lock import mean_look
from ..controls.extend import Extension, HoldFrames, append_chunk, chunk_condition
from ..model.model import VideoModel
from ..pictures.reading import lay_out
from ..sampling.controls import Control
from ..sampling.guidance import Guidance
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from .batch import ClipInput, OnStep, Sampling, clip_seed, count_steps


def extend_clips(
    model: VideoModel,
    clips: Sequence[ClipInput],
    sampling: Sampling,
    new_frames: int,
    extension: Extension,
    *,
    token_of: Callable[[Tensor], Tensor],
    controls: Sequence[Control] = (),
    on_step: OnStep | None = None,
) -> list[Tensor]:
    """Return the scaled latents [T + new_frames, 4, h, w] of every clip, on the model's device.

    `latent` of each ClipInput is the clip so far. `sampling` is for one chunk of `extension.frames` frames; clip b
    continues with seed + b. `token_of` gives the image token [1, 1, D] of one scaled latent. `controls` steer every
    chunk; `on_step` counts over all clips.
    """
    longer = []
    for number, clip in enumerate(clips):
        extended = extend_clip(
            model.denoise,
            clip.latent.to(model.device).contiguous(),
            clip.condition.to(model.device),
            sampling.sigmas,
            sampling.guidance,
            new_frames,
            extension,
            token_of=token_of,
            unconditional=None if clip.unconditional is None else clip.unconditional.to(model.device),
            solver=sampling.solver,
            seed=clip_seed(sampling.seed, number),
            on_step=count_steps(on_step, number, len(clips)),
            controls=(*clip.controls, *controls),
        )
        longer.append(extended)
    return longer


@torch.no_grad()
def extend_clip(
    denoise: Callable[[Tensor, float, Any], Tensor],
    clip: Tensor,
    condition: Condition,
    sigmas: Tensor,
    guidance: Guidance | Tensor | float,
    new_frames: int,
    extension: Extension,
    *,
    token_of: Callable[[Tensor], Tensor] | None = None,
    unconditional: Condition | None = None,
    solver: str = "euler",
    seed: int = 23,
    on_step: OnStep | None = None,
    controls: Sequence[Control] = (),
) -> Tensor:
    """Return `clip`, scaled latents [T, 4, h, w], with `new_frames` more frames: [T + new_frames, 4, h, w].

    All frames but the last `overlap` stay bit for bit what they are; those are blended with the first chunk.

    condition: that of the clip. guidance: for one chunk. token_of: returns the image token [1, n, D] of a scaled latent
    [1, 4, h, w]; needed only if the anchor is below 1. seed: chunk j is drawn with seed + 1 + j. on_step: receives the
    steps of all chunks, counted through. controls: steer each chunk as well. Colour and contrast are matched to the
    first `extension.frames` frames.
    """
    chunks = _check(clip, new_frames, extension, token_of)
    clip = lay_out(clip if clip.dtype == torch.float64 else clip.float())
    anchor = mean_look(clip[: extension.frames])
    wanted = len(clip) + new_frames
    for j in range(chunks):
        known = clip[-extension.overlap :]
        chunk_seed = clip_seed(seed, 1 + j)
        chunk = sample(
            denoise,
            start_noise(extension.frames, *clip.shape[-2:], chunk_seed).to(clip),
            sigmas,
            guidance,
            chunk_condition(condition, known[:1], token_of, extension.anchor),
            solver=solver,
            on_step=count_steps(on_step, j, chunks),
            seed=chunk_seed,
            unconditional=None if unconditional is None else unconditional.with_parts(lambda part: part[-1:]),
            controls=[HoldFrames(known, extension.hold, extension.release, extension.repeats), *controls],
        )
        clip = append_chunk(clip, chunk, anchor, extension)[:wanted]
    return clip


def _check(clip: Tensor, new_frames: int, extension: Extension, token_of: Any) -> int:
    """Return the number of chunks; raises ValueError for what cannot be extended."""
    if clip.dim() != 4 or not torch.isfinite(clip).all():
        raise ValueError(
            f"the clip to extend has shape {list(clip.shape)} or values that are not finite; give latents [T, 4, h, w]"
        )
    if new_frames < 1:
        raise ValueError(f"an extension adds at least 1 frame (got {new_frames}); use 1 or more")
    if len(clip) < extension.overlap:
        raise ValueError(
            f"the overlap is {extension.overlap} frames, but the clip has {len(clip)}; use an overlap of at most "
            f"{len(clip)}"
        )
    if extension.anchor < 1 and token_of is None:
        raise ValueError(
            f"an anchor of {extension.anchor:g} needs image tokens of later frames; pass token_of, or use anchor 1"
        )
    return extension.chunks(new_frames)
