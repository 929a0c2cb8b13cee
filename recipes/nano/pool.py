"""Pools of encoded pictures for nano's training clips, drawn once and cached in a file.

The autoencoder is trained so that moving its latents moves the picture. One encoding therefore serves clips of every
move, bucket and frame rate. The encoded picture is larger than the first frame, so that a pan has something to show.
The area of the first frame is encoded separately as well, because a picture's borders affect all of its latents.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from svd_core.model.conditioning import clip_pixels
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.vae import LATENT_SCALE, VAE

from .camera import bright_side
from .networks import save_checkpoint
from .objects import draw_dart
from .photographs import uniform
from .scenes import PictureSource

DARTS = 0.3  # share of pictures with a dart
CELL = 8  # pixels per latent cell


@dataclass(frozen=True)
class Format:
    """One clip size: width and height of the first frame in latent cells, and the number of pictures in the pool."""

    name: str
    width: int
    height: int
    pictures: int

    @property
    def field(self) -> tuple[int, int]:
        """Width and height of the encoded pictures in cells: 1.5 times those of the first frame."""
        return self.width * 3 // 2, self.height * 3 // 2


SMALL, SQUARE, WIDE = Format("small", 8, 8, 1200), Format("square", 16, 16, 900), Format("wide", 24, 16, 300)
FORMATS = (SMALL, SQUARE, WIDE)


def draw_field(source: PictureSource, form: Format, generator: torch.Generator) -> Tensor:
    """Draw one picture [3, H, W] in -1..1 of a format's field."""
    width, height = (cells * CELL for cells in form.field)
    square = source.draw(max(width, height), generator)
    top, left = (square.shape[1] - height) // 2, (square.shape[2] - width) // 2
    return square[:, top : top + height, left : left + width]


def middle(planes: Tensor, form: Format, cell: int) -> Tensor:
    """Return the area of the first frame in [..., H, W], as a view. `cell` is CELL for pictures, 1 for latents."""
    seen = (form.height, form.width)
    top, left = ((whole - part) * cell // 2 for whole, part in zip(form.field[::-1], seen, strict=True))
    return planes[..., top : top + form.height * cell, left : left + form.width * cell]


@torch.no_grad()
def encode_fields(vae: VAE, fields: Tensor, form: Format) -> Tensor:
    """Return unscaled latents [B, 4, H, W] of fields [B, 3, 8H, 8W]; the middle is encoded separately.

    Padding lets the encoder detect how far a cell is from the border, deep into the picture, and changes its latents.
    The first frame of a clip must have exactly the latents that the UNet is conditioned on; otherwise it blurs them.
    """
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(fields).float()
        middle(latents, form, 1).copy_(vae.encode(middle(fields, form, CELL)).float())
    return latents


@torch.no_grad()
def draw_item(
    form: Format, vae: VAE, encoder: ImageEncoder, source: PictureSource, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw and encode one picture of a pool.

    field [4, H, W] and shown [4, H, W]: scaled latents without and with the dart; cover [1, H, W]; nose [2], zero
    without a dart; noised [4, h, w]: unscaled latent of the first view with augmentation noise `level`; side [2];
    token [D].
    """
    field = draw_field(source, form, generator)
    shown, cover, nose = field, torch.zeros(1, *field.shape[1:]), torch.zeros(2)
    with_dart = uniform(generator, 0, 1) < DARTS
    if with_dart:
        dart = draw_dart(*field.shape[1:], min(form.width, form.height) * CELL, generator)
        shown, cover = field + (dart.colours * 2 - 1 - field) * dart.cover, dart.cover
        nose = torch.tensor(dart.direction)
    view = middle(shown, form, CELL)
    level = torch.exp(-3.0 + 0.5 * torch.randn((), generator=generator))
    noised = view + level * torch.randn(view.shape, generator=generator)
    clean = encode_fields(vae, torch.stack([field, shown] if with_dart else [field]), form) * LATENT_SCALE
    with torch.autocast("cpu", torch.bfloat16):
        concat = vae.encode(noised[None]).float()[0]
    return {
        "field": clean[0],
        "shown": clean[-1],
        "cover": (1.3 * F.avg_pool2d(cover[None], CELL)[0]).clamp(max=1),
        "nose": nose,
        "noised": concat,
        "level": level,
        "side": bright_side(view[None])[0],
        "token": encoder(clip_pixels(view[None]))[0],
    }


def load_pool(
    work: Path, form: Format, vae: VAE, encoder: ImageEncoder, source: PictureSource, seed: int
) -> dict[str, Tensor]:
    """Return the pool of one format: the entries of `draw_item`, stacked. It is drawn once and cached in `work`."""
    kept = work / f"pool_{form.name}_{seed}_{form.pictures}.pt"
    if not kept.exists():
        generator = torch.Generator().manual_seed(seed * 7_919 + form.width)
        items = [draw_item(form, vae, encoder, source, generator) for _ in range(form.pictures)]
        save_checkpoint(kept, **{key: torch.stack([item[key] for item in items]) for key in items[0]})
    return torch.load(kept, weights_only=True)
