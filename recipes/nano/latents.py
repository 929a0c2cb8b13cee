"""What the UNet trains on: encoded pictures, moved by the camera in latent space, with their conditions.

The autoencoder is trained so that moving its latents moves the picture. One encoding of a picture therefore serves for
clips of every motion bucket and frame rate.
"""

import math

import torch
from torch import Tensor

from svd_core.conditioning import clip_pixels
from svd_core.models.embedding import sinusoidal_embedding
from svd_core.models.image_encoder import ImageEncoder
from svd_core.models.vae import LATENT_SCALE, VAE

from .camera import FASTEST_FPS, SLOWEST_FPS, bright_focus, push_in, travel_per_frame
from .networks import FRAMES
from .scenes import PictureSource

ENCODED_AT_ONCE = 4


def motion_vectors(fps: Tensor, motion_bucket: Tensor, augmentation: Tensor) -> Tensor:
    """Embed frames per second (the network sees one less), bucket and augmentation, each [B] -> [B, 768]."""
    values = (fps - 1, motion_bucket, augmentation)
    return torch.cat([sinusoidal_embedding(value.float(), 256) for value in values], dim=1)


class LatentBuffer:
    """A ring of encoded pictures of one size.

    `clean` [P, 4, h, w] is scaled by 0.18215 and is what clips are made of; `noised` [P, 4, h, w] is unscaled, encoded
    from the picture with augmentation noise of deviation `levels` [P]; `focus` [P, 2]; `tokens` [P, D].
    """

    def __init__(self, vae: VAE, tower: ImageEncoder, source: PictureSource, size: int, capacity: int) -> None:
        self.vae, self.tower, self.source, self.size, self.capacity = vae, tower, source, size, capacity
        self.clean, self.noised = (torch.empty(capacity, 4, size // 8, size // 8) for _ in range(2))
        self.levels, self.focus = torch.empty(capacity), torch.empty(capacity, 2)
        self.tokens = torch.empty(capacity, tower.config.output_channels)
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @torch.no_grad()
    def add(self, generator: torch.Generator) -> None:
        """Draw and encode ENCODED_AT_ONCE pictures, replacing the oldest when full."""
        pictures = torch.stack([self.source.draw(self.size, generator) for _ in range(ENCODED_AT_ONCE)])
        levels = torch.exp(-3.0 + 0.5 * torch.randn(ENCODED_AT_ONCE, generator=generator))
        noised = pictures + levels[:, None, None, None] * torch.randn(pictures.shape, generator=generator)
        latents = self.vae.encode(torch.cat([pictures, noised]))
        slots = torch.arange(self.added, self.added + ENCODED_AT_ONCE) % self.capacity
        self.clean[slots] = latents[:ENCODED_AT_ONCE] * LATENT_SCALE
        self.noised[slots] = latents[ENCODED_AT_ONCE:]
        self.levels[slots] = levels
        self.focus[slots] = bright_focus(pictures)
        self.tokens[slots] = self.tower(clip_pixels(pictures))
        self.added += ENCODED_AT_ONCE

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return clips [B, T, 4, h, w], conditioning latents [B, 4, h, w], tokens [B, D] and vectors [B, 768]."""
        slots = torch.randint(len(self), (count,), generator=generator)
        fps = torch.randint(SLOWEST_FPS, FASTEST_FPS + 1, (count,), generator=generator)
        motion_bucket = torch.randint(0, 256, (count,), generator=generator)
        travels = travel_per_frame(motion_bucket, fps)[:, None] * torch.arange(FRAMES)  # [B, T]
        clips = push_in(self.clean[slots], self.focus[slots], travels)
        return clips, self.noised[slots], self.tokens[slots], motion_vectors(fps, motion_bucket, self.levels[slots])


def draw_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Draw noise levels [B]: mostly log-normal about 3, every tenth log-uniform over the whole range 0.002..700.

    The mean lies above the published exp(0.7), all the more for latents this small: here the picture tells the clip,
    and only where noise hides the clip does the network have to learn to move the picture. At low noise the loss is
    large, but its share of the clip's error, sigma squared, is small.
    """
    usual = 1.1 + 1.3 * torch.randn(count, generator=generator)
    share = torch.rand(count, generator=generator)
    wide = math.log(0.002) + share * (math.log(700.0) - math.log(0.002))
    return torch.exp(torch.where(torch.rand(count, generator=generator) < 0.1, wide, usual))
