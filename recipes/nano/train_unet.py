"""Trains nano's UNet: python -m recipes.nano.train_unet --work DIR. Needs vae.pt and tower.pt there.

Resumes from DIR/unet.pt. The learning rate is constant until the last `--cooldown` steps, where it falls to zero, so
that a run can be prolonged: raise `--steps` and start it again.
"""

import argparse
import copy
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from svd_core.models.image_encoder import ImageEncoder
from svd_core.models.unet import UNet
from svd_core.models.vae import LATENT_SCALE, VAE

from .first_weights import initialise_unet
from .latents import ENCODED_AT_ONCE, LatentBuffer, draw_sigmas
from .networks import FRAMES, SIZE, TOWER, UNET, VAE_FRAME, follow, prepare_cpu, save_checkpoint
from .orthogonal import make_optimizers
from .scenes import PictureSource
from .train_vae import learn

SIZES = (SIZE // 2, SIZE)  # pixels; small pictures teach the same move at a quarter of the cost
DROPPED = 0.03  # chance of each: token zeroed, latent zeroed, both


def scale_latents(vae: VAE, source: PictureSource, seed: int) -> None:
    """Fold a factor per latent channel into the VAE so that latents times 0.18215 have deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        pictures = torch.stack([source.draw(128, generator) for _ in range(64)])
        factor = 1 / (LATENT_SCALE * vae.encode(pictures).std(dim=(0, 2, 3)))
        vae.encoder.conv_out.weight[:4] *= factor[:, None, None, None]
        vae.encoder.conv_out.bias[:4] *= factor
        vae.decoder.conv_in.weight /= factor[None, :, None, None]


def drop_conditions(latent: Tensor, token: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Zero tokens [B, D], latents [B, 4, h, w] or both in a few clips each, for guidance."""
    chance = torch.rand(len(token), generator=generator)
    keep_token = ((chance >= DROPPED) & ((chance < 2 * DROPPED) | (chance >= 3 * DROPPED))).float()
    keep_latent = ((chance < DROPPED) | (chance >= 3 * DROPPED)).float()
    return latent * keep_latent[:, None, None, None], token * keep_token[:, None]


def velocity_loss(unet: UNet, buffer: LatentBuffer, count: int, generator: torch.Generator) -> Tensor:
    """Mean squared error of F against the velocity (spec section 8.1): the weighted EDM loss, one sigma per clip."""
    clips, latent, token, vector = buffer.draw(count, generator)
    latent, token = drop_conditions(latent, token, generator)
    sigma = draw_sigmas(count, generator)
    s = sigma[:, None, None, None, None]
    x = clips + s * torch.randn(clips.shape, generator=generator)
    root = (s.square() + 1).sqrt()
    target = (x / root.square() - clips) * root / s
    entry = torch.cat([x / root, latent[:, None].expand_as(clips)], dim=2).flatten(0, 1)
    frames = [value.repeat_interleave(FRAMES, 0) for value in (sigma.log() / 4, token[:, None], vector)]
    return (unet(entry, *frames, num_frames=FRAMES) - target.flatten(0, 1)).square().mean()


def learning_rate(step: int, steps: int, cooldown: int, highest: float) -> float:
    """Warm-up over 50 steps, constant, then linear to zero over the last `cooldown` steps."""
    return highest * min(1.0, (step + 1) / 50, max(0.0, (steps - step) / max(1, cooldown)))


class Run:
    """Everything that a checkpoint of UNet training holds."""

    def __init__(self, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.unet = UNet(UNET)
        initialise_unet(self.unet, LATENT_SCALE)
        self.average = copy.deepcopy(self.unet).requires_grad_(False)
        self.optimizers = make_optimizers(self.unet, rate, plain=("input_blocks.0.0", "out.2"))
        self.step = 0

    def load(self, path: Path) -> None:
        """Continue where a checkpoint ends."""
        saved = torch.load(path, weights_only=True)
        self.unet.load_state_dict(saved["unet"])
        self.average.load_state_dict(saved["average"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step = saved["step"]

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        weights = {"unet": self.unet.state_dict(), "average": self.average.state_dict()}
        save_checkpoint(path, step=self.step, optimizers=states, **weights)


def load_frozen(work: Path, source: PictureSource, seed: int) -> tuple[VAE, ImageEncoder]:
    """Load the trained autoencoder, its latents scaled, and the trained tower."""
    vae, tower = VAE(VAE_FRAME).requires_grad_(False), ImageEncoder(TOWER).requires_grad_(False)
    scaled = work / "vae_scaled.pt"
    if not scaled.exists():
        vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["vae"])
        scale_latents(vae, source, seed)
        save_checkpoint(scaled, vae=vae.state_dict())
    vae.load_state_dict(torch.load(scaled, weights_only=True)["vae"])
    tower.load_state_dict(torch.load(work / "tower.pt", weights_only=True)["tower"])
    return vae, tower


def mean_of(values: Iterable[float]) -> str:
    """Format the mean of some numbers, "-" where there are none."""
    values = list(values)
    return f"{sum(values) / len(values):.4f}" if values else "-"


def train(arguments: argparse.Namespace) -> None:
    """Train until `steps` steps have been made in all."""
    work, seed = arguments.work, arguments.seed
    source = PictureSource(work, seed)
    vae, tower = load_frozen(work, source, seed)
    run = Run(arguments.rate, seed)
    if (work / "unet.pt").exists():
        run.load(work / "unet.pt")
    buffers = [LatentBuffer(vae, tower, source, size, arguments.pictures) for size in SIZES]
    first = torch.Generator().manual_seed(seed * 7_919 + run.step)
    for _ in range(arguments.first_pictures // ENCODED_AT_ONCE):
        for buffer in buffers:
            buffer.add(first)
    started, losses = time.time(), []
    while run.step < arguments.steps:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step)
        which = int(torch.rand((), generator=generator) < arguments.native_share)
        buffer, count = buffers[which], arguments.batch // (4 if which else 1)
        if run.step % arguments.refresh == 0:
            buffer.add(generator)
        rate = learning_rate(run.step, arguments.steps, arguments.cooldown, arguments.rate)
        loss = velocity_loss(run.unet, buffer, count, generator)
        learn(run.unet, loss, run.optimizers, rate)
        run.step += 1
        follow(run.average, run.unet, run.step, arguments.average)
        losses.append((which, loss.item()))
        if run.step % 50 == 0 or run.step == arguments.steps:
            means = [mean_of(loss for kind, loss in losses if kind == which) for which in (0, 1)]
            print(f"{run.step} loss small {means[0]} native {means[1]} {time.time() - started:.0f}s", flush=True)
            losses = []
            run.save(work / "unet.pt")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--cooldown", type=int, default=1350)
    parser.add_argument("--batch", type=int, default=8, help="clips per step; a quarter of it at native size")
    parser.add_argument("--native-share", type=float, default=0.65, help="share of the steps at native size")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--average", type=float, default=0.995, help="decay of the averaged weights")
    parser.add_argument("--pictures", type=int, default=1000, help="encoded pictures kept per size")
    parser.add_argument("--first-pictures", type=int, default=160, help="encoded before the first step")
    parser.add_argument("--refresh", type=int, default=2, help="steps between new pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    prepare_cpu(arguments.threads)
    train(arguments)


if __name__ == "__main__":
    main()
