"""Batches of clips: conditions, sampling and decoding, with a seed and a share of the progress for every clip.

Nodes, commands and batch runs call these functions; no other room loops over clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..condition import Condition
from ..controls.loop import decode_closed
from ..model.conditioning import augment
from ..model.decoding import frames_to_image
from ..model.model import VideoModel
from ..pictures import Placement
from ..sampling.controls import Control, finish_frames
from ..sampling.guidance import Guidance
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from ..sampling.solvers import Step
from .settings import AnimateSettings, guidance_of, refuse_orbital, sigmas_of

OnStep = Callable[[Step], None]
OnDecode = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Sampling:
    """What all clips of a batch share: length, noise levels, guidance, solver; clip b is drawn with seed + b.

    add_noise: False continues clips whose latents still have the noise of the first level, as `sample` says.
    """

    frames: int
    sigmas: Tensor
    guidance: Guidance | Tensor | float
    solver: str = "euler"
    seed: int = 23
    churn: float = 0.0
    add_noise: bool = True


class ClipInput(NamedTuple):
    """What one clip of a batch is sampled from. `latent` is a scaled clip or frame to start from, None for noise."""

    condition: Condition
    unconditional: Condition | None = None
    latent: Tensor | None = None
    controls: Sequence[Control] = ()


def sampling_of(settings: AnimateSettings) -> Sampling:
    """Return the sampling that resolved `settings` describe."""
    return Sampling(
        settings.frames,
        sigmas_of(settings),
        guidance_of(settings),
        solver=settings.solver,
        seed=settings.seed,
        churn=settings.churn,
    )


def clip_seed(seed: int, clip: int) -> int:
    """Return the seed of clip number `clip`, counted from 0: the last seed is followed by 0."""
    return (seed + clip) % 2**64


def count_steps(on_step: OnStep | None, clip: int, clips: int) -> OnStep | None:
    """Return `on_step` for clip number `clip` of `clips`: it counts the steps of all."""
    if on_step is None:
        return None
    return lambda step: on_step(step._replace(index=clip * step.steps + step.index, steps=clips * step.steps))


def count_work(report: OnDecode | None, clip: int, clips: int) -> OnDecode | None:
    """Return `report(done, total)` for clip number `clip` of `clips`: it counts the work of all."""
    if report is None:
        return None
    return lambda done, total: report(clip * total + done, clips * total)


@torch.no_grad()
def condition_pictures(model: VideoModel, pictures: Tensor, settings: AnimateSettings) -> list[Condition]:
    """Return the condition of every fitted picture of [B, 3, 8h, 8w] in -1..1 under resolved `settings`.

    The image encoder sees the clean pictures, the VAE the noised ones (spec section 7). All pictures pass one network
    before the next, so that each network is brought to its device once.
    """
    refuse_orbital(model.config)
    rows = pictures.split(1)
    noised = [augment(row, settings.augmentation, clip_seed(settings.seed, b)) for b, row in enumerate(rows)]
    tokens = [model.encode_image(row) for row in rows]
    latents = [model.encode_latent(row) for row in noised]
    vector = model.embed_motion(
        fps_id=settings.fps - 1,
        motion_bucket_id=settings.motion_bucket,
        augmentation_level=settings.augmentation,
    )
    return [Condition(token, latent, vector) for token, latent in zip(tokens, latents, strict=True)]


def sample_clips(
    model: VideoModel, clips: Sequence[ClipInput], sampling: Sampling, *, on_step: OnStep | None = None
) -> list[Tensor]:
    """Return the scaled latents [T, 4, h, w] of every clip, on the model's device; `on_step` counts over all clips."""
    refuse_orbital(model.config)
    made = []
    for number, clip in enumerate(clips):
        seed = clip_seed(sampling.seed, number)
        condition = clip.condition.to(model.device)
        noise = start_noise(sampling.frames, *condition.latent.shape[-2:], seed).to(model.device)
        latents = sample(
            model.denoise,
            noise,
            sampling.sigmas,
            sampling.guidance,
            condition,
            solver=sampling.solver,
            on_step=count_steps(on_step, number, len(clips)),
            latent=None if clip.latent is None else clip.latent.to(model.device),
            churn=sampling.churn,
            seed=seed,
            unconditional=None if clip.unconditional is None else clip.unconditional.to(model.device),
            controls=clip.controls,
            control_scale=model.config.control_scale,
            add_noise=sampling.add_noise,
        )
        made.append(latents)
    return made


class Decode(Protocol):
    """Turns the latents [T, 4, h, w] of one clip into frames [T, H, W, 3] in 0..1."""

    def __call__(self, latents: Tensor, on_decode: OnDecode | None) -> Tensor: ...


def decoder_of(model: VideoModel, plan: str | int = "exact") -> Decode:
    """Return the `decode` of `decode_clips` for scaled latents of `model`: frames [T, H, W, 3] in 0..1 on the CPU."""

    def decode(latents: Tensor, on_decode: OnDecode | None) -> Tensor:
        return frames_to_image(model.decode(latents, plan, on_progress=on_decode)).cpu()

    return decode


def decode_clips(
    decode: Decode,
    clips: Sequence[Tensor],
    *,
    closed: bool = False,
    finish: Sequence[Sequence[Control]] = (),
    placement: Placement | None = None,
    on_decode: OnDecode | None = None,
) -> Tensor:
    """Return the frames [N, H, W, 3] in 0..1 of all clips, each of latents [T, 4, h, w] that `decode` takes.

    decode: gives the frames of one clip, such as `decoder_of(model)`.
    closed: the clips are loops, decoded across their join.
    finish: per clip, the controls that edit its decoded frames; empty for none.
    placement: where the picture lies in the frames; what lies outside is cut off.
    on_decode: counts over all clips.
    """
    images = []
    for number, clip in enumerate(clips):
        report = count_work(on_decode, number, len(clips))
        if closed:
            frames = decode_closed(partial(decode, on_decode=report), clip.contiguous())
        else:
            frames = decode(clip.contiguous(), report)
        images.append(finish_frames(frames.contiguous(), finish[number] if finish else ()))
    frames = torch.cat(images)
    return frames if placement is None else placement.undo(frames).contiguous()
