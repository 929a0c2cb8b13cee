"""Trains nano's image tower: python -m recipes.nano.train_tower --work DIR.

A tower as large as CLIP cannot be trained here. This one learns to report, in 64 numbers, what a picture looks like as
a whole: where its light is (which tells nano where to move), a 4x4 map of its colours, its contrast and its grain.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svd_core.model.conditioning import clip_pixels
from svd_core.networks.image_encoder import ImageEncoder

from .camera import bright_side
from .networks import SIZE, TOWER, prepare_cpu, save_checkpoint
from .photographs import HELD_OUT, fit_frame, load_photograph
from .scenes import PictureSource


def description(picture: Tensor) -> Tensor:
    """Return the 64 numbers that the tower is to report of [3, H, W], each of about unit size."""
    light = picture.mean(0)
    cells = picture.unfold(1, picture.shape[1] // 3, picture.shape[1] // 3)
    cells = cells.unfold(2, picture.shape[2] // 3, picture.shape[2] // 3)[:, :3, :3]
    contrast = cells.mean(0).flatten(2).std(dim=2).flatten()  # [9]
    grain = torch.stack([light.diff(dim=0).abs().mean(), light.diff(dim=1).abs().mean()])
    colours = F.adaptive_avg_pool2d(picture[None], 4).flatten()  # [48]
    return torch.cat([
        bright_side(picture[None])[0] * 2, colours * 2, contrast * 4, grain * 10, picture.mean(dim=(1, 2)) * 2
    ])  # fmt: skip


def initialise_tower(tower: ImageEncoder) -> None:
    """Fill the parameters that torch leaves unset, as OpenCLIP does."""
    width = tower.config.width
    for parameter in (tower.class_embedding, tower.positional_embedding, tower.proj):
        nn.init.normal_(parameter, std=width**-0.5)
    for layer in tower.transformer["resblocks"]:
        nn.init.xavier_uniform_(layer.attn.in_proj_weight)
        nn.init.zeros_(layer.attn.in_proj_bias)


def train(work: Path, steps: int, seed: int) -> None:
    """Train for `steps` batches of 32 pictures and write `work`/tower.pt."""
    torch.manual_seed(seed)
    tower = ImageEncoder(TOWER)
    initialise_tower(tower)
    optimizer = torch.optim.AdamW(tower.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    source = PictureSource(work, seed)
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.stack([fit_frame(load_photograph(name), SIZE, SIZE) for name in HELD_OUT])
    for step in range(1, steps + 1):
        pictures = torch.stack([source.draw(SIZE, generator) for _ in range(32)])
        targets = torch.stack([description(picture) for picture in pictures])
        loss = F.mse_loss(tower(clip_pixels(pictures)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            with torch.no_grad():
                seen = tower(clip_pixels(held_out))[:, :2] / 2
            wanted = bright_side(held_out)
            print(f"{step} loss {loss.item():.4f} side error {(seen - wanted).abs().max():.3f}", flush=True)
    save_checkpoint(work / "tower.pt", tower=tower.state_dict())


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
