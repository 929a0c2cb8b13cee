"""Random checkpoints of any width, created once in the work folder; all implementations share their tensors."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from svd_core.checkpoints.writing import LazyTensor, write_tensors
from svd_core.networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

PREFIXES = {
    "unet": "model.diffusion_model.",
    "encoder": "conditioner.embedders.3.encoder.",
    "decoder": "first_stage_model.",
    "image_encoder": "conditioner.embedders.0.open_clip.model.visual.",
}


@dataclass(frozen=True)
class Scale:
    """Widths of a model: "real" is SVD, the others are narrower versions of it."""

    model_channels: int
    vae_channels: int
    image_encoder: tuple[int, int]  # width, layers

    def config(self) -> SVDConfig:
        """Return the configuration of all three networks."""
        width, layers = self.image_encoder
        coder = CoderConfig(channels=self.vae_channels)
        head = 80 if width % 80 == 0 else 64
        return SVDConfig(
            unet=UNetConfig(model_channels=self.model_channels),
            vae=VAEConfig(encoder=coder, decoder=coder),
            image_encoder=ImageEncoderConfig(width=width, layers=layers, head_channels=head, mlp_channels=4 * width),
            variant="custom",
            frames=25,
        )


SCALES = {
    "real": Scale(320, 128, (1280, 32)),
    "half": Scale(192, 128, (640, 8)),
    "small": Scale(64, 32, (128, 3)),
    "decoder": Scale(64, 128, (128, 3)),  # the real autoencoder with a narrow UNet
}


def networks(config: SVDConfig) -> dict[str, nn.Module]:
    """Return the three networks on the meta device."""
    made = {"unet": UNet(config.unet, device="meta"), "vae": VAE(config.vae, device="meta")}
    return made | {"image_encoder": ImageEncoder(config.image_encoder, device="meta")}


def stored_shapes(config: SVDConfig, parts: tuple[str, ...] = ("unet", "vae", "image_encoder")) -> dict[str, tuple]:
    """Return stored name -> shape in the single-file layout."""
    shapes = {}
    for part, network in networks(config).items():
        for key, tensor in network.state_dict().items() if part in parts else ():
            home = part if part != "vae" else ("decoder" if key.startswith("decoder.") else "encoder")
            shapes[PREFIXES[home] + key] = tuple(tensor.shape)
    return shapes


def metadata(config: SVDConfig) -> dict[str, str]:
    """Return the metadata for what shapes do not determine."""
    return {
        "svd.head_channels": str(config.unet.head_channels),
        "svd.clip_head_channels": str(config.image_encoder.head_channels),
        "svd.frames": str(config.frames),
        "svd.width": str(config.width),
        "svd.height": str(config.height),
    }


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return weights that keep activations of order 1 and use every path: no zeros, no blend at one half."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("mix_factor"):
        return noise.clamp(-2, 2)
    if len(shape) <= 1:
        return 0.1 * noise + (1.0 if "norm" in name or name.endswith("layers.0.weight") else 0.0)
    return noise * (1 / max(1, noise[0].numel())) ** 0.5


def checkpoint(scale: str, work: Path, parts: tuple[str, ...] = ("unet", "vae", "image_encoder")) -> Path:
    """Return the path of the random float32 checkpoint of that scale, created if it is missing."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{scale}-{'-'.join(parts)}.safetensors"
    if not path.exists():
        config = SCALES[scale].config()
        generator = torch.Generator().manual_seed(0)
        tensors = {k: random_tensor(k, shape, generator) for k, shape in stored_shapes(config, parts).items()}
        write_tensors(path, tensors, metadata(config))
    return path


def dense(path: Path, config: SVDConfig, dtype: torch.dtype) -> Path:
    """Return the path of a random checkpoint in the layout of the official files, created if it is missing."""
    if path.exists():
        return path
    generator = torch.Generator().manual_seed(0)
    shapes = stored_shapes(config)
    # The official files contain the encoder twice; ComfyUI reads one copy and we read the other.
    start, first_stage = f"{PREFIXES['encoder']}encoder.", PREFIXES["decoder"]
    twice = {key: shape for key, shape in shapes.items() if key.startswith(start)}
    shapes |= {first_stage + key[len(PREFIXES["encoder"]) :]: shape for key, shape in twice.items()}

    def lazy(key: str, shape: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(dtype, shape, lambda: random_tensor(key, shape, generator).to(dtype))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {key: lazy(key, shape) for key, shape in shapes.items()}, metadata(config))
    return path
