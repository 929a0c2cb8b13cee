"""Trains nano's decoder on clips while the latents stay as they are: python -m recipes.nano.train_decoder --work DIR.

Adds the temporal half of the decoder, which learns to recover from neighbouring frames what noise hides in one latent.
Run it beside the training of the UNet or after it. It starts from vae_scaled.pt and resumes from decoder.pt.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from svd_core.networks.vae import VAE

from .camera import FASTEST_FPS, SLOWEST_FPS, bright_side, choose, film, free_move, full_speed_move, speed_of
from .networks import (
    VAE_CLIP,
    follow,
    load_frame_vae,
    prepare_cpu,
    save_checkpoint,
    temporal_from_frame,
)
from .pool import CELL, SMALL, SQUARE, Format, draw_field, encode_fields
from .scenes import PictureSource
from .train_vae import AVERAGE, held_out_psnr, learn, learning_rate, make_optimizers, reconstruction_loss

# Share of the latents' deviation: from the error of the encoder to that of a small UNet.
LEAST_NOISE, MOST_NOISE = 0.01, 0.08
STILL = 0.3  # share of clips in which nothing moves
# Clips per step, frames and format, used in turn; single pictures keep the round trip sharp.
SHAPES = ((8, 1, SMALL), (1, 8, SMALL), (2, 1, SQUARE), (1, 8, SMALL), (1, 3, SQUARE))


def clip_noise(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise for latents [B, T, 4, h, w], in shares of their deviation: grain of one and of two cells."""
    clips, frames, channels, height, width = latents.shape
    size = LEAST_NOISE * (MOST_NOISE / LEAST_NOISE) ** torch.rand(clips, 1, 1, 1, 1, generator=generator)
    fine = torch.randn(latents.shape, generator=generator)
    coarse = torch.randn(clips * frames, channels, height // 2, width // 2, generator=generator)
    coarse = F.interpolate(coarse, scale_factor=2, mode="nearest").view_as(fine)
    return size * (0.7 * fine + 0.7 * coarse)


def draw_clips(
    vae: VAE, source: PictureSource, shape: tuple[int, int, Format], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return noised latents [B, T, 4, h, w] of moved pictures, and the target frames [B, T, 3, 8h, 8w]."""
    count, frames, form = shape
    fields = torch.stack([draw_field(source, form, generator) for _ in range(count)])
    latents = encode_fields(vae, fields, form)
    bucket = torch.randint(0, 256, (count,), generator=generator)
    fps = torch.randint(SLOWEST_FPS, FASTEST_FPS + 1, (count,), generator=generator)
    free = torch.rand(count, generator=generator) < 0.5
    usual = full_speed_move(bright_side(fields)).times(speed_of(bucket, fps))
    moving = (torch.rand(count, generator=generator) >= STILL).float()
    move = choose(free, free_move(count, generator), usual).times(moving)
    clips = film(latents, move, frames, form.height, form.width)
    targets = film(fields, move, frames, form.height * CELL, form.width * CELL)
    return clips + latents.std() * clip_noise(clips, generator), targets


def train(work: Path, steps: int, highest_rate: float, seed: int) -> None:
    """Train or resume training until `steps` steps are done in total."""
    torch.manual_seed(seed)
    vae = VAE(VAE_CLIP)
    temporal_from_frame(load_frame_vae(work / "vae_scaled.pt").state_dict(), vae)
    trained = copy.deepcopy(vae.decoder)
    vae.requires_grad_(False)
    optimizers, step = make_optimizers(trained), 0
    checkpoint = work / "decoder.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        vae.decoder.load_state_dict(saved["decoder"])
        trained.load_state_dict(saved["trained"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step = saved["step"]
    source = PictureSource(work, seed)
    started, losses = time.time(), []
    while step < steps:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + 500_000 + step)
        shape = SHAPES[step % len(SHAPES)]
        latents, targets = draw_clips(vae, source, shape, generator)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = trained(latents.flatten(0, 1), num_frames=shape[1])
        loss = reconstruction_loss(decoded, targets.flatten(0, 1))
        learn(trained, loss, optimizers, learning_rate(step, steps, highest_rate))
        step += 1
        follow(vae.decoder, trained, step, AVERAGE)
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            report = " ".join(f"{value:.2f}" for value in held_out_psnr(vae))
            print(f"{step} loss {sum(losses) / len(losses):.4f} psnr {report} {time.time() - started:.0f}s", flush=True)
            losses = []
            states = [optimizer.state_dict() for optimizer in optimizers]
            weights = {"decoder": vae.decoder.state_dict(), "trained": trained.state_dict()}
            save_checkpoint(checkpoint, step=step, optimizers=states, **weights)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    prepare_cpu(arguments.threads)
    train(arguments.work, arguments.steps, arguments.rate, arguments.seed)


if __name__ == "__main__":
    main()
