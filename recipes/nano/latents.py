"""Training samples of the UNet: encoded pictures, moved by the camera in latent space, with their conditions."""

from pathlib import Path

import torch
from torch import Tensor

from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.layers import sinusoidal_embedding
from svd_core.networks.vae import VAE
from svd_core.training import TrainingSample

from .camera import FASTEST_FPS, SLOWEST_FPS, Move, choose, film, free_move, full_speed_move, speed_of
from .objects import FLIGHT
from .pool import FORMATS, Format, load_pool
from .scenes import PictureSource

LENGTHS = (8, 14)  # frames
# Slow moves are the hardest to distinguish from no motion, so half of all clips get a bucket of the lower half.
SLOW, SLOW_BUCKET = 0.5, 130
FREE = 0.25  # share of clips with a free move
# Below this noise the noisy frames show the move; above it the network could only guess a free move.
FREE_BELOW = {8: 2.5, 16: 5.0}
# Probability of each format, and clips per step, chosen for about equal work.
SHARES = {"small": 0.3, "square": 0.5, "wide": 0.2}
CLIPS = {"small": {8: 12, 14: 7}, "square": {8: 3, 14: 2}, "wide": {8: 2, 14: 1}}


def motion_vectors(fps: Tensor, motion_bucket: Tensor, augmentation: Tensor) -> Tensor:
    """Return the embedding [B, 768] of frames per second, bucket and augmentation, each [B]; it contains fps - 1."""
    values = (fps - 1, motion_bucket, augmentation)
    return torch.cat([sinusoidal_embedding(value.float(), 256) for value in values], dim=1)


def make_clips(pool: dict[str, Tensor], slots: Tensor, move: Move, flight: Tensor, frames: int, form: Format) -> Tensor:
    """Return clips [B, T, 4, h, w] of pictures `slots` [B] of a pool; `flight` [B] is the speed of their darts."""
    background = film(pool["field"][slots], move, frames, form.height, form.width)
    # An object that flies to the right looks like a camera that moves to the left.
    nose = pool["nose"][slots] * flight[:, None]
    chase = Move(move.right - nose[:, 0], move.down - nose[:, 1], move.zoom, move.roll)
    layers = torch.cat([pool["shown"][slots], pool["cover"][slots]], dim=1)
    layers = film(layers, chase, frames, form.height, form.width)
    return hold_exposure(background + (layers[:, :, :4] - background) * layers[:, :, 4:])


def hold_exposure(clips: Tensor) -> Tensor:
    """Return clips [B, T, 4, h, w] with the mean of every frame shifted to that of frame 0, like automatic exposure.

    Otherwise frames would get brighter while the camera moves towards the light.
    """
    means = clips.mean(dim=(3, 4), keepdim=True)
    return clips + (means[:, :1] - means)


class ClipSource:
    """Random training clips, which depend only on the step and the generator."""

    def __init__(self, work: Path, vae: VAE, encoder: ImageEncoder, pictures: PictureSource, seed: int) -> None:
        """Draw the pools of all formats, or read them from `work`."""
        self.pools = {form.name: load_pool(work, form, vae, encoder, pictures, seed) for form in FORMATS}

    def batch(self, step: int, count: int, generator: torch.Generator) -> list[TrainingSample]:
        """Return clips of one format and length: `count` of the smallest format, fewer of larger ones."""
        choice = torch.rand((), generator=generator).item()
        small, square = SHARES["small"], SHARES["square"]
        form = FORMATS[0 if choice < small else 1 if choice < small + square else 2]
        frames = LENGTHS[int(torch.randint(len(LENGTHS), (), generator=generator))]
        clips = max(1, CLIPS[form.name][frames] * count // CLIPS["small"][8])
        pool = self.pools[form.name]
        slots = torch.randint(form.pictures, (clips,), generator=generator)
        fps = torch.randint(SLOWEST_FPS, FASTEST_FPS + 1, (clips,), generator=generator)
        motion_bucket = torch.randint(0, 256, (clips,), generator=generator)
        slow = torch.rand(clips, generator=generator) < SLOW
        motion_bucket = torch.where(slow, motion_bucket * SLOW_BUCKET // 255, motion_bucket)
        speed = speed_of(motion_bucket, fps)
        free = torch.rand(clips, generator=generator) < FREE
        move = choose(free, free_move(clips, generator), full_speed_move(pool["side"][slots]).times(speed))
        latent = make_clips(pool, slots, move, FLIGHT * speed, frames, form)
        vector = motion_vectors(fps, motion_bucket, pool["level"][slots])
        limit = FREE_BELOW[form.height]
        return [
            TrainingSample(
                latent=latent[clip],
                concat=pool["noised"][slots[clip]],
                token=pool["token"][slots[clip]],
                vector=vector[clip],
                sigma_limit=limit if free[clip] else None,
            )
            for clip in range(clips)
        ]
