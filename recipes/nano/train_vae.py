"""Trains nano's autoencoder on single pictures: python -m recipes.nano.train_vae --work DIR.

A quarter of the latents are zoomed and shifted before decoding, and the target is the picture with the same zoom and
shift. Latents then move like the picture, which makes the UNet's task easy.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from svd_core.networks.vae import LATENT_SCALE, VAE
from svd_core.training.optimizers import Muon

from .first_weights import initialise_vae
from .networks import HELD_OUT_SEED, SIZE, VAE_FRAME, follow, prepare_cpu, psnr, save_checkpoint, scale_latents
from .photographs import HELD_OUT, fit_frame, load_photograph
from .scenes import PictureSource, draw_held_out_scene

AVERAGE = 0.995  # decay of the averaged weights, which are the result
LATENT_NOISE = 0.02  # of the latents' deviation, because the decoder gets imperfect latents from a small UNet
PHOTOGRAPH_SHARE = 0.8  # of the pictures: procedural scenes are the easier ones by far


def move(pictures: Tensor, windows: Tensor) -> Tensor:
    """Return pictures or latents [B, C, h, w] cropped to their windows [B, 3] (scale, x, y) and resized to fill."""
    matrix = torch.zeros(len(windows), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = windows[:, 0]
    matrix[:, :, 2] = windows[:, 1:]
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def draw_windows(count: int, generator: torch.Generator) -> Tensor:
    """Draw zooms of 1 to 1.7 whose window stays inside the picture; three of four are the whole picture."""
    scale = 1 - 0.4 * torch.rand(count, 1, generator=generator)
    windows = torch.cat([scale, (1 - scale) * (2 * torch.rand(count, 2, generator=generator) - 1)], 1)
    windows[torch.arange(count) % 4 < 3] = torch.tensor([1.0, 0.0, 0.0])
    return windows


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean over pictures of their root mean square error, plus a small loss on neighbouring differences.

    The root is a compromise: the mean square depends mostly on the hardest pictures, mean decibels on the easiest.
    """
    error = output.float() - target
    slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return (error.square().mean(dim=(1, 2, 3)) + 1e-5).sqrt().mean() + 0.1 * slopes


def vae_loss(vae: VAE, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return the loss of one batch [B, 3, s, s]; it also keeps latents near mean 0 and deviation 1."""
    with torch.autocast("cpu", torch.bfloat16):
        mean = vae.moments(pictures)[0].float()
    windows = draw_windows(len(pictures), generator)
    latents = move(mean, windows)
    latents = latents + LATENT_NOISE * mean.std().detach() * torch.randn(latents.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(latents, num_frames=1)
    loss = reconstruction_loss(decoded, move(pictures, windows))
    deviations = mean.std(dim=(0, 2, 3))
    return loss + 0.01 * ((deviations - 1).square().mean() + mean.mean(dim=(0, 2, 3)).square().mean())


@torch.no_grad()
def held_out_psnr(vae: VAE) -> list[float]:
    """Return the round-trip PSNR in dB of each held-out photograph and of four held-out scenes, at native size."""
    photographs = [fit_frame(load_photograph(name), SIZE, SIZE) for name in HELD_OUT]
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    pictures = torch.stack(photographs + [draw_held_out_scene(SIZE, SIZE, generator) for _ in range(4)])
    decoded = vae.decode(vae.encode(pictures), num_frames=1)
    return [psnr(a, b) for a, b in zip(decoded, pictures, strict=True)]


def make_optimizers(vae: nn.Module) -> list[torch.optim.Optimizer]:
    """Return Muon for the kernels of the residual branches, and AdamW for the rest.

    The layers of the linear autoencoder get a thirtieth of the rate, because their initial values are nearly right.
    """
    kernels, vectors, carriers = [], [], []
    for name, parameter in vae.named_parameters():
        branch = ("block." in name or "mid." in name) and "nin_shortcut" not in name
        (carriers if not branch else kernels if parameter.ndim > 1 else vectors).append(parameter)
    groups = [{"params": vectors, "share": 0.3}, {"params": carriers, "share": 0.03}]
    muon = Muon(kernels, 1e-3, weight_decay=0.0)
    muon.param_groups[0]["share"] = 1.0
    return [muon, torch.optim.AdamW(groups, 1e-4, betas=(0.9, 0.99), weight_decay=0.0, fused=True)]


def learn(network: nn.Module, loss: Tensor, optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Apply one gradient step of `loss`, each group of parameters with its share of the learning rate."""
    network.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.get("share", 1.0) * rate
        optimizer.step()


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Return the learning rate: linear warm-up over 30 steps, then linear decay to 1 % of the highest rate."""
    return highest * min(1.0, (step + 1) / 30) * max(0.01, 1 - step / steps)


def start_from(vae: VAE, path: Path) -> None:
    """Load the frame autoencoder of an earlier nano file, and scale its latents to deviation 1."""
    tensors, prefix = load_file(path), "first_stage_model."
    vae.load_state_dict({name: tensors[f"{prefix}{name}"].float() for name in vae.state_dict()})
    scale_latents(vae, LATENT_SCALE)


def train(work: Path, steps: int, highest_rate: float, pictures: int, start: Path | None, seed: int) -> None:
    """Train or resume from `work`/vae.pt until `steps` steps are done in total.

    A step uses `pictures` pictures of half the native side; every sixth step uses a sixth as many of the native side.
    """
    torch.manual_seed(seed)
    vae = VAE(VAE_FRAME)
    if start is None:
        initialise_vae(vae)
    else:
        start_from(vae, start)
    average = copy.deepcopy(vae).requires_grad_(False)
    optimizers = make_optimizers(vae)
    checkpoint, step = work / "vae.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(saved["trained"])
        average.load_state_dict(saved["vae"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step = saved["step"]
    source = PictureSource(work, seed, photograph_share=PHOTOGRAPH_SHARE)
    started, losses = time.time(), []
    while step < steps:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        size, count = (SIZE, max(1, pictures // 6)) if step % 6 == 5 else (SIZE // 2, pictures)
        batch = torch.stack([source.draw(size, generator) for _ in range(count)])
        loss = vae_loss(vae, batch, generator)
        learn(vae, loss, optimizers, learning_rate(step, steps, highest_rate))
        losses.append(loss.item())
        step += 1
        follow(average, vae, step, AVERAGE)
        if step % 50 == 0 or step == steps:
            report = " ".join(f"{value:.2f}" for value in held_out_psnr(average))
            print(f"{step} loss {sum(losses) / len(losses):.4f} psnr {report} {time.time() - started:.0f}s", flush=True)
            losses = []
            states = [optimizer.state_dict() for optimizer in optimizers]
            weights = {"vae": average.state_dict(), "trained": vae.state_dict()}
            save_checkpoint(checkpoint, step=step, optimizers=states, **weights)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pictures", type=int, default=6, help="64x64 pictures of a step")
    parser.add_argument("--start", type=Path, help="an earlier nano.safetensors to take the first weights from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare_cpu(given.threads)
    train(given.work, given.steps, given.rate, given.pictures, given.start, given.seed)


if __name__ == "__main__":
    main()
