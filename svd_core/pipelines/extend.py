"""Clips continued from their end, chunk by chunk, for every clip of a batch."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..controls.extend import Extension, extend_clip
from ..model.model import VideoModel
from ..sampling.controls import Control
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
