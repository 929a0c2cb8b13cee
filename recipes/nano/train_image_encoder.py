"""Trains nano's image encoder: python -m recipes.nano.train_image_encoder --work DIR.

An encoder as large as CLIP cannot be trained on a CPU. This one learns 64 numbers that describe a picture as a whole:
the position of its light (which decides nano's camera move), a 4x4 map of its colours, its contrast and its grain.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svd_core.model.conditioning import clip_pixels
from svd_core.networks.image_encoder import ImageEncoder

from .camera import bright_side
from .networks import IMAGE_ENCODER, SIZE, prepare_cpu, save_checkpoint
from .photographs import HELD_OUT, fit_frame, load_photograph
from .scenes import PictureSource


def description(picture: Tensor) -> Tensor:
    """Return the 64 target numbers of a picture [3, H, W], each of about unit size."""
    light = picture.mean(0)
    cells = picture.unfold(1, picture.shape[1] // 3, picture.shape[1] // 3)
    cells = cells.unfold(2, picture.shape[2] // 3, picture.shape[2] // 3)[:, :3, :3]
    contrast = cells.mean(0).flatten(2).std(dim=2).flatten()  # [9]
    grain = torch.stack([light.diff(dim=0).abs().mean(), light.diff(dim=1).abs().mean()])
    colours = F.adaptive_avg_pool2d(picture[None], 4).flatten()  # [48]
    return torch.cat([
        bright_side(picture[None])[0] * 2, colours * 2, contrast * 4, grain * 10, picture.mean(dim=(1, 2)) * 2
    ])  # fmt: skip


def initialise_encoder(encoder: ImageEncoder) -> None:
    """Initialise the parameters that torch leaves unset, as OpenCLIP does."""
    width = encoder.config.width
    for parameter in (encoder.class_embedding, encoder.positional_embedding, encoder.proj):
        nn.init.normal_(parameter, std=width**-0.5)
    for layer in encoder.transformer["resblocks"]:
        nn.init.xavier_uniform_(layer.attn.in_proj.weight)
        nn.init.zeros_(layer.attn.in_proj.bias)


def train(work: Path, steps: int, seed: int) -> None:
    """Train for `steps` batches of 32 pictures and write `work`/image_encoder.pt."""
    torch.manual_seed(seed)
    encoder = ImageEncoder(IMAGE_ENCODER)
    initialise_encoder(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    source = PictureSource(work, seed)
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.stack([fit_frame(load_photograph(name), SIZE, SIZE) for name in HELD_OUT])
    for step in range(1, steps + 1):
        pictures = torch.stack([source.draw(SIZE, generator) for _ in range(32)])
        targets = torch.stack([description(picture) for picture in pictures])
        loss = F.mse_loss(encoder(clip_pixels(pictures)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            with torch.no_grad():
                seen = encoder(clip_pixels(held_out))[:, :2] / 2
            wanted = bright_side(held_out)
            print(f"{step} loss {loss.item():.4f} side error {(seen - wanted).abs().max():.3f}", flush=True)
    save_checkpoint(work / "image_encoder.pt", image_encoder=encoder.state_dict())


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    prepare_cpu(2)
    train(arguments.work, arguments.steps, arguments.seed)


if __name__ == "__main__":
    main()
