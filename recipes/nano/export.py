"""Writes nano as one half-precision safetensors file: python -m recipes.nano.export --work DIR --output FILE.

The key layout is that of the official single files. The encoder is stored twice, as in those files, because other
programs read the second copy. The frame decoder beside the first copy is left out, because no program reads it.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from svd_core.networks.vae import VAE

from .networks import FRAMES, IMAGE_ENCODER, SIZE, UNET, VAE_CLIP, temporal_from_frame

CLIP_SHARE = 0.5
METADATA = {
    "svd.variant": "nano",
    "svd.head_channels": str(UNET.head_channels),
    "svd.clip_head_channels": str(IMAGE_ENCODER.head_channels),
    "svd.frames": str(FRAMES),
    "svd.width": str(SIZE),
    "svd.height": str(SIZE),
    "license": "Apache-2.0",
    "description": "nano v1.3 of SVD Reel, trained from scratch by recipes/nano; contains no Stability AI weights",
}


def read(path: Path, name: str) -> dict[str, Tensor]:
    """Return one network's weights from a training checkpoint."""
    return torch.load(path, weights_only=True, map_location="cpu")[name]


def clip_vae_state(work: Path, clip_share: float) -> dict[str, Tensor]:
    """Return the autoencoder with its temporal decoder; an untrained temporal half is the identity.

    The decoder is interpolated between the one trained on single pictures (`clip_share` 0) and the one trained on
    clips (1). In between, it decodes single pictures nearly as well as the first, and clips as well as the second.
    """
    vae = VAE(VAE_CLIP)
    temporal_from_frame(read(work / "vae_scaled.pt", "vae"), vae)
    if (work / "decoder.pt").exists():
        trained = read(work / "decoder.pt", "decoder")
        first = vae.decoder.state_dict()
        vae.decoder.load_state_dict({key: first[key].lerp(trained[key], clip_share) for key in first})
    return vae.state_dict()


def gather(work: Path, clip_share: float) -> dict[str, Tensor]:
    """Return all tensors under their names in the single-file layout, half precision, contiguous."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in read(work / "unet.pt", "unet").items()}
    vae = clip_vae_state(work, clip_share)
    for key, value in vae.items():
        if key.startswith("decoder."):
            tensors[f"first_stage_model.{key}"] = value
            continue
        tensors[f"conditioner.embedders.3.encoder.{key}"] = value
        if key.startswith("encoder."):
            tensors[f"first_stage_model.{key}"] = value.clone()
    visual = "conditioner.embedders.0.open_clip.model.visual."
    tensors |= {f"{visual}{key}": value for key, value in read(work / "image_encoder.pt", "image_encoder").items()}
    halves = {key: value.to(torch.float16).contiguous().clone() for key, value in sorted(tensors.items())}
    broken = [key for key, value in halves.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{len(broken)} tensors do not fit half precision, such as {broken[0]}; train again")
    return halves


def main() -> None:
    """Read the command line, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--output", type=Path, default=Path("svd_core/assets/nano.safetensors"))
    parser.add_argument("--clip-share", type=float, default=CLIP_SHARE, help="of the clip-trained decoder, 0 to 1")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(gather(arguments.work, arguments.clip_share), arguments.output, metadata=METADATA)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
