"""Random checkpoints of any width, made once and kept in the work folder; all implementations share their tensors."""

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
    """Widths of a model. real is SVD itself; the others are the same network, narrower."""

    model_channels: int
    vae_channels: int
    tower: tuple[int, int]

    def config(self) -> SVDConfig:
        """The sizes of all three networks."""
        width, layers = self.tower
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
    "decoder": Scale(64, 128, (128, 3)),  # the real autoencoder beside a narrow UNet
}


def networks(config: SVDConfig) -> dict[str, nn.Module]:
    """The three networks without memory."""
    made = {"unet": UNet(config.unet, device="meta"), "vae": VAE(config.vae, device="meta")}
    return made | {"image_encoder": ImageEncoder(config.image_encoder, device="meta")}


def stored_shapes(config: SVDConfig, parts: tuple[str, ...] = ("unet", "vae", "image_encoder")) -> dict[str, tuple]:
    """Stored name -> shape of the single-file layout."""
    shapes = {}
    for part, network in networks(config).items():
        for key, tensor in network.state_dict().items() if part in parts else ():
            home = part if part != "vae" else ("decoder" if key.startswith("decoder.") else "encoder")
            shapes[PREFIXES[home] + key] = tuple(tensor.shape)
    return shapes


def metadata(config: SVDConfig) -> dict[str, str]:
    """What shapes cannot tell."""
    return {
        "svd.head_channels": str(config.unet.head_channels),
        "svd.clip_head_channels": str(config.image_encoder.head_channels),
        "svd.frames": str(config.frames),
        "svd.width": str(config.width),
        "svd.height": str(config.height),
    }


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights under which activations stay of order 1 and every branch counts: no zeros, no blend at one half."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("mix_factor"):
        return noise.clamp(-2, 2)
    if len(shape) <= 1:
        return 0.1 * noise + (1.0 if "norm" in name or name.endswith("layers.0.weight") else 0.0)
    return noise * (1 / max(1, noise[0].numel())) ** 0.5


def checkpoint(scale: str, work: Path, parts: tuple[str, ...] = ("unet", "vae", "image_encoder")) -> Path:
    """Path of the random float32 checkpoint of that scale, made if it is not there."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{scale}-{'-'.join(parts)}.safetensors"
    if not path.exists():
        config = SCALES[scale].config()
        generator = torch.Generator().manual_seed(0)
        tensors = {k: random_tensor(k, shape, generator) for k, shape in stored_shapes(config, parts).items()}
        write_tensors(path, tensors, metadata(config))
    return path


def dense(path: Path, config: SVDConfig, dtype: torch.dtype) -> Path:
    """A checkpoint of random numbers in the layout of the official files, made tensor by tensor if it is not there."""
    if path.exists():
        return path
    generator = torch.Generator().manual_seed(0)
    shapes = stored_shapes(config)
    # The official files hold the encoder twice: ComfyUI reads one copy, we read the other.
    start, first_stage = f"{PREFIXES['encoder']}encoder.", PREFIXES["decoder"]
    twice = {key: shape for key, shape in shapes.items() if key.startswith(start)}
    shapes |= {first_stage + key[len(PREFIXES["encoder"]) :]: shape for key, shape in twice.items()}

    def lazy(key: str, shape: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(dtype, shape, lambda: random_tensor(key, shape, generator).to(dtype))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {key: lazy(key, shape) for key, shape in shapes.items()}, metadata(config))
    return path
