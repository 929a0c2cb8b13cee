"""What our nodes note in LATENT and CONDITIONING dictionaries, and how they read those of other nodes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...svd_core.condition import Condition
from ...svd_core.model.conditioning import motion_vector
from ...svd_core.pictures import Placement
from ...svd_core.sampling.controls import Control
from ..host.unet import FRAMES_KEY

CLIP_KEY = "svd_reel"
"""Entry of our LATENT dictionaries that holds a ClipNote."""

# Entries of a CONDITIONING that only the host's own samplers obey.
FOREIGN_KEYS = ("control", "area", "mask", "hooks", "start_percent", "end_percent", "time_conditioning")


@dataclass(frozen=True)
class ClipNote:
    """How a LATENT divides into clips, where the picture lies in its padded frames, and whether the clips are loops.

    finish: for each clip, the controls that go on in its decoded frames; nothing where no clip has any.
    """

    frames: int
    placement: Placement | None = None
    closed: bool = False
    finish: tuple[tuple[Control, ...], ...] = ()


def clip_length(latent: dict) -> int:
    """Frames of each clip in a LATENT: as noted, or all its rows where the note no longer fits or there is none."""
    rows = check_samples(latent).shape[0]
    note = latent.get(CLIP_KEY)
    return note.frames if note is not None and rows % note.frames == 0 else rows


def check_samples(latent: dict) -> Tensor:
    """The latents [N, 4, h, w] of a LATENT; ValueError for those of other kinds of models."""
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[1] != 4 or samples.shape[0] < 1:
        raise ValueError(
            f"the latent has shape {list(samples.shape)}, but SVD takes [frames, 4, height, width]; "
            "make it with Prepare Image for SVD or encode frames with the SVD VAE"
        )
    return samples


def make_conditioning(token: Tensor, latent: Tensor, motion: dict, frames: int) -> list:
    """CONDITIONING under the host's own names from B tokens [1, D] each and B latents [4, h, w] each.

    One picture gives one row, as the host's SVD node makes it; several give a row for every frame of every clip.
    """
    if token.shape[0] > 1:
        token, latent = (part.repeat_interleave(frames, dim=0) for part in (token, latent))  # [B*T, ...]
    return [[token, {**motion, "concat_latent_image": latent, FRAMES_KEY: frames}]]


def read_conditioning(conditioning: list, clip: int, frames: int, size: tuple[int, int]) -> Condition:
    """The condition of clip number `clip` in CONDITIONING of ours or of the host's SVD node.

    frames: of one clip; size: (height, width) of its latents. Missing entries mean what they mean to the host.
    """
    if len(conditioning) != 1:
        raise ValueError(
            f"the conditioning holds {len(conditioning)} entries, SVD Reel's sampler takes 1; "
            "leave out Conditioning (Combine), or sample with KSampler behind Export SVD to ComfyUI Model"
        )
    token, extra = conditioning[0]
    foreign = [key for key in FOREIGN_KEYS if extra.get(key) is not None]
    if foreign:
        raise ValueError(
            f"the conditioning carries {', '.join(foreign)}, which SVD Reel's sampler does not apply; remove the node "
            "that adds it, or sample with KSampler behind Export SVD to ComfyUI Model"
        )
    latent = extra.get("concat_latent_image")
    if latent is None:
        latent = torch.zeros(1, 4, *size)
    if tuple(latent.shape[-2:]) != size:
        (h, w), (ch, cw) = size, latent.shape[-2:]
        raise ValueError(
            f"the latent is {8 * w}x{8 * h} pixels, the conditioning {8 * cw}x{8 * ch}; make both in one node, at one "
            "size"
        )
    vector = motion_vector(
        extra.get("fps", 6) - 1, extra.get("motion_bucket_id", 127), extra.get("augmentation_level", 0)
    )
    rows = [part if part.shape[0] in (1, frames) else _rows_of(part, clip, frames) for part in (token, latent)]
    return Condition(*(row.float() for row in rows), vector)


def _rows_of(part: Tensor, clip: int, frames: int) -> Tensor:
    rows = part[clip * frames : (clip + 1) * frames]
    if len(rows) != frames:
        raise ValueError(
            f"the conditioning has {part.shape[0]} rows, too few for clip {clip + 1} of {frames} frames; "
            "make latent and conditioning in one node"
        )
    return rows
