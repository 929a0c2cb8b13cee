"""Trains nano's UNet with the pack's own trainer: python -m recipes.nano.train_unet --work DIR.

Needs vae.pt and image_encoder.pt in DIR. A stopped run resumes when it is started again, and gives the same weights
(svd_core.training). The log and its plot are in DIR/unet.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import LATENT_SCALE, VAE
from svd_core.training import Trainer, TrainingProgress, TrainSettings

from .first_weights import initialise_unet
from .latents import ClipSource
from .networks import IMAGE_ENCODER, UNET, load_frame_vae, prepare_cpu, save_checkpoint, scale_latents
from .scenes import PictureSource

STEPS, COOLDOWN = 2300, 1100
UNET_PREFIX = "model.diffusion_model."
SETTINGS = {
    "method": "full",
    "targets": "all",
    "optimizer": "muon",
    "precision": "bf16",
    "batch": 12,
    "rate": 1.5e-3,
    "warmup": 50,
    "schedule": "linear-cooldown",
    # The published mean is 0.7 for large pictures. It is higher here, because the clip follows from the picture: the
    # network only learns to move the picture where noise hides the clip.
    "p_mean": 1.5,
    "p_std": 1.3,
    "wide_share": 0.1,
    # A change of a frame's mean by a thousandth of the range already looks like a moving sky.
    "mean_weight": 50.0,
    "drop_token": 0.03,
    "drop_latent": 0.03,
    "drop_both": 0.03,
    "ema": 0.996,
    "log_every": 25,
    "save_every": 100,
}


def level_latents(vae: VAE, source: PictureSource, seed: int) -> None:
    """Scale each latent channel of the VAE so that latents times 0.18215 have deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        pictures = torch.stack([source.draw(128, generator) for _ in range(64)])
        scale_latents(vae, 1 / (LATENT_SCALE * vae.encode(pictures).std(dim=(0, 2, 3))))


def load_frozen(work: Path, source: PictureSource, seed: int) -> tuple[VAE, ImageEncoder]:
    """Return the trained autoencoder, with scaled latents, and the trained image encoder."""
    scaled = work / "vae_scaled.pt"
    if not scaled.exists():
        vae = load_frame_vae(work / "vae.pt")
        level_latents(vae, source, seed)
        save_checkpoint(scaled, vae=vae.state_dict())
    vae, encoder = load_frame_vae(scaled), ImageEncoder(IMAGE_ENCODER).requires_grad_(False)
    encoder.load_state_dict(torch.load(work / "image_encoder.pt", weights_only=True)["image_encoder"])
    return vae, encoder


def start_from(unet: UNet, path: Path) -> None:
    """Load the weights of an earlier nano file. Its latents may differ; the UNet adapts to them within minutes."""
    tensors = load_file(path)
    unet.load_state_dict({name: tensors[f"{UNET_PREFIX}{name}"].float() for name in unet.state_dict()})


def report(progress: TrainingProgress) -> None:
    """Print every hundredth step."""
    if progress.step % 100 == 0:
        print(f"{progress.step} of {progress.steps}, loss {progress.loss:.4f}, {progress.seconds:.0f} s", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cooldown", type=int, default=COOLDOWN)
    parser.add_argument("--rate", type=float, default=SETTINGS["rate"])
    parser.add_argument("--p-mean", type=float, default=SETTINGS["p_mean"], help="mean of log sigma")
    parser.add_argument("--p-std", type=float, default=SETTINGS["p_std"], help="deviation of log sigma")
    parser.add_argument("--start", type=Path, help="an earlier nano.safetensors to take the UNet's first weights from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare_cpu(given.threads)
    torch.manual_seed(given.seed)
    unet = UNet(UNET)
    initialise_unet(unet, LATENT_SCALE)
    if given.start is not None:
        start_from(unet, given.start)
    pictures = PictureSource(given.work, given.seed)
    vae, encoder = load_frozen(given.work, pictures, given.seed)
    source = ClipSource(given.work, vae, encoder, pictures, given.seed)
    chosen = SETTINGS | {"rate": given.rate, "p_mean": given.p_mean, "p_std": given.p_std}
    settings = TrainSettings(steps=given.steps, cooldown=given.cooldown, seed=given.seed, **chosen)
    result = Trainer(unet, source, settings, given.work / "unet").run(on_step=report)
    save_checkpoint(given.work / "unet.pt", unet=result.weights)


if __name__ == "__main__":
    main()
