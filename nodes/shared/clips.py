"""The notes of our nodes in LATENT and CONDITIONING dictionaries, and how other nodes' dictionaries are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...svd_core.condition import Condition
from ...svd_core.model.conditioning import motion_vector
from ...svd_core.networks.vae import LATENT_SCALE
from ...svd_core.pictures import Placement, as_batch, fit
from ...svd_core.pipelines.batch import ClipInput
from ...svd_core.sampling.controls import Control
from ..host.unet import FRAMES_KEY
from .controls import ControlChain

CLIP_KEY = "svd_reel"
"""Entry of our LATENT dictionaries that holds a ClipNote."""

# Entries of a CONDITIONING that only the host's own samplers apply.
FOREIGN_KEYS = ("control", "area", "mask", "hooks", "start_percent", "end_percent", "time_conditioning")


@dataclass(frozen=True)
class ClipNote:
    """The clip length of a LATENT, where the picture lies in padded frames, and whether the clips are loops.

    finish: for each clip, the controls that edit its decoded frames; empty if no clip has any. fps: the rate for which
    the motion was made, if known.
    sigma: the noise level that the latents still have, 0 for finished clips.
    """

    frames: int
    placement: Placement | None = None
    closed: bool = False
    finish: tuple[tuple[Control, ...], ...] = ()
    fps: float | None = None
    sigma: float = 0.0


def clip_length(latent: dict) -> int:
    """Return the frames of each clip in a LATENT: as noted, or all rows if there is no note or it does not fit."""
    rows = check_samples(latent).shape[0]
    note = latent.get(CLIP_KEY)
    return note.frames if note is not None and rows % note.frames == 0 else rows


def check_samples(latent: dict) -> Tensor:
    """Return the latents [N, 4, h, w] of a LATENT; ValueError for those of other kinds of models."""
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[1] != 4 or 0 in samples.shape:
        raise ValueError(
            f"SVD needs a latent [frames, 4, height, width] (got shape {list(samples.shape)}); make it with Prepare "
            "Image for SVD, or encode frames with the SVD VAE"
        )
    if not samples.is_floating_point() or not bool(torch.isfinite(samples).all()):
        raise ValueError("the latent has NaN, infinite or whole-number values; check the node that it comes from")
    return samples


def start_pictures(
    image: Tensor, latent: dict, fit_mode: str, background: str
) -> tuple[Tensor, tuple[int, int], int, int]:
    """Return fitted pictures [1|B, 3, H, W] of IMAGE for the clips of a LATENT, their size before, frames and clips."""
    frames, samples = clip_length(latent), check_samples(latent)
    clips, (height, width) = len(samples) // frames, (8 * side for side in samples.shape[-2:])
    batch = as_batch(image, background)
    if len(batch) not in (1, clips):
        raise ValueError(
            f"the number of images must be 1 or the number of clips in the latent, {clips} (got {len(batch)}); connect "
            "the image that Prepare Image for SVD receives"
        )
    return fit(batch, width, height, fit_mode)[0], tuple(batch.shape[2:]), frames, clips


def make_conditioning(token: Tensor, latent: Tensor, motion: dict, frames: int) -> list:
    """Return CONDITIONING under the host's names for tokens [B, 1, D] and latents [B, 4, h, w].

    One picture gives one row, as the host's SVD node does; several give a row for every frame of every clip.
    """
    if token.shape[0] > 1:
        token, latent = (part.repeat_interleave(frames, dim=0) for part in (token, latent))  # [B*T, ...]
    return [[token, {**motion, "concat_latent_image": latent, FRAMES_KEY: frames}]]


def read_conditioning(
    conditioning: list, clip: int, frames: int, size: tuple[int, int], channels: int | None = None
) -> Condition:
    """Return the condition of clip number `clip` from CONDITIONING of our nodes or of the host's SVD node.

    frames: of one clip. size: (height, width) of its latents. channels: of the image tokens, None for any. Missing
    entries get the host's defaults.
    """
    if len(conditioning) != 1:
        raise ValueError(
            f"SVD Reel's sampler needs conditioning with 1 entry (got {len(conditioning)}); remove Conditioning "
            "(Combine), or sample with KSampler after Export SVD to ComfyUI Model"
        )
    token, extra = conditioning[0]
    foreign = [key for key in FOREIGN_KEYS if extra.get(key) is not None]
    if foreign:
        raise ValueError(
            f"SVD Reel's sampler does not apply {', '.join(foreign)} of the conditioning; remove the node that adds "
            "it, or sample with KSampler after Export SVD to ComfyUI Model"
        )
    latent = extra.get("concat_latent_image")
    if latent is None:
        latent = torch.zeros(1, 4, *size)
    if tuple(latent.shape[-2:]) != size:
        (h, w), (ch, cw) = size, latent.shape[-2:]
        raise ValueError(
            f"latent and conditioning must have one size (got {8 * w}x{8 * h} and {8 * cw}x{8 * ch} pixels); make both "
            "in one node"
        )
    vector = motion_vector(
        extra.get("fps", 6) - 1, extra.get("motion_bucket_id", 127), extra.get("augmentation_level", 0)
    )
    _check_kinds(token, latent, channels)
    rows = [part if part.shape[0] in (1, frames) else _rows_of(part, clip, frames) for part in (token, latent)]
    return Condition(*(row.float() for row in rows), vector)


def _check_kinds(token: Tensor, latent: Tensor, channels: int | None) -> None:
    """Raise ValueError for conditioning of another kind of model: of a text encoder, or with other latents."""
    if token.ndim != 3 or token.shape[1] != 1:
        raise ValueError(
            f"the conditioning has shape {list(token.shape)}, which is that of a text encoder or another kind of "
            "model; SVD takes one image token [rows, 1, channels], so connect Prepare Image for SVD"
        )
    if channels is not None and token.shape[2] != channels:
        raise ValueError(
            f"the conditioning has image tokens of {token.shape[2]} channels, but this model takes {channels}; make it "
            "with the image encoder of the same checkpoint"
        )
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(
            f"the conditioning's image has latents of shape {list(latent.shape)}; SVD needs [rows, 4, height, width], "
            "so connect Prepare Image for SVD"
        )


def clip_inputs(
    starts: Sequence[Tensor],
    positive: list,
    negative: list,
    chain: ControlChain,
    *,
    channels: int,
    conditioned: int | None = None,
) -> list[ClipInput]:
    """Return the input of every clip whose unscaled latents [T, 4, h, w] are `starts`.

    channels: of the image tokens that the UNet takes. conditioned: the length of the clips that the CONDITIONING was
    made for, if it is another one.
    """
    frames, size = conditioned or len(starts[0]), tuple(starts[0].shape[-2:])
    return [
        ClipInput(
            read_conditioning(positive, number, frames, size, channels),
            read_conditioning(negative, number, frames, size, channels),
            # The host marks a latent that holds no clip by zeros.
            latent=start * LATENT_SCALE if bool(start.any()) else None,
            controls=chain.of_clip(number, len(starts)),
        )
        for number, start in enumerate(starts)
    ]


def _rows_of(part: Tensor, clip: int, frames: int) -> Tensor:
    rows = part[clip * frames : (clip + 1) * frames]
    if len(rows) != frames:
        raise ValueError(
            f"the conditioning has {part.shape[0]} rows, too few for clip {clip + 1} of {frames} frames; make latent "
            "and conditioning in one node"
        )
    return rows
