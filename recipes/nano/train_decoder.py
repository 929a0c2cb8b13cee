"""Trains nano's decoder further while the latents stay as they are: python -m recipes.nano.train_decoder --work DIR.

Runs beside the training of the UNet, or after it; starts from vae_scaled.pt, resumes from decoder.pt.
"""

import argparse
import copy
import time
from pathlib import Path

import torch

from svd_core.models.vae import VAE

from .networks import SIZE, VAE_FRAME, follow, prepare_cpu, save_checkpoint
from .scenes import PictureSource
from .train_vae import (
    AVERAGE,
    draw_windows,
    held_out_psnr,
    learn,
    learning_rate,
    make_optimizers,
    move,
    reconstruction_loss,
)

LATENT_NOISE = 0.03  # of the latents' deviation: what the UNet draws is less exact than what the encoder gives


def train(work: Path, steps: int, highest_rate: float, seed: int) -> None:
    """Train, or go on training, until `steps` steps have been made in all."""
    torch.manual_seed(seed)
    vae = VAE(VAE_FRAME)
    vae.load_state_dict(torch.load(work / "vae_scaled.pt", weights_only=True)["vae"])
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
        size, count = (SIZE, 2) if step % 2 else (SIZE // 2, 8)
        pictures = torch.stack([source.draw(size, generator) for _ in range(count)])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(pictures).float()
        windows = draw_windows(count, generator)
        noise = torch.randn(latents.shape, generator=generator)
        latents = move(latents, windows) + LATENT_NOISE * latents.std() * noise
        targets = move(pictures, windows)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = trained(latents, num_frames=1)
        loss = reconstruction_loss(decoded, targets)
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
