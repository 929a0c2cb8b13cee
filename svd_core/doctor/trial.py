"""The clip that the checks run: a photograph, as many frames and pixels as the device computes within a given time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..condition import Condition
from ..model.conditioning import augment
from ..model.model import SVDModel
from ..networks.config import SVDConfig
from ..networks.vae import LATENT_SCALE
from ..pictures import as_batch, fit, open_picture
from ..plan.costs import unet_flops
from ..sampling.noise import start_noise

PICTURE = Path(__file__).resolve().parents[1] / "assets" / "demo.png"
SEED = 23
AUGMENTATION = 0.02
SHRINKS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)
FEWER_FRAMES = (25, 14, 8, 4)
LEAST = 64  # pixels of a side
WIDE, NARROW = 80.0, 1.0
"""Noise levels of the evaluations: much noise, and little."""


@dataclass(frozen=True)
class TrialSize:
    """Frames, and pixels of a frame in multiples of 8."""

    frames: int
    width: int
    height: int

    @property
    def latent(self) -> tuple[int, int, int]:
        """Frames, and height and width of the latents."""
        return self.frames, self.height // 8, self.width // 8

    @property
    def pixels(self) -> int:
        """Latent pixels of the clip, by which the guidance mode is chosen."""
        frames, height, width = self.latent
        return frames * height * width

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.width}x{self.height}"


def trial_size(config: SVDConfig, flops: float) -> TrialSize:
    """Return the largest clip of the model's aspect whose UNet pass takes at most `flops` operations, or the least."""
    counts = [config.frames, *(count for count in FEWER_FRAMES if count < config.frames)]
    sizes = {
        TrialSize(count, _side(config.width * shrink), _side(config.height * shrink))
        for shrink in SHRINKS
        for count in counts
    }
    by_cost = sorted(sizes, key=lambda size: (unet_flops(config.unet, *size.latent), size.frames), reverse=True)
    return next((size for size in by_cost if unet_flops(config.unet, *size.latent) <= flops), by_cost[-1])


def _side(pixels: float) -> int:
    return max(LEAST, int(pixels) // 64 * 64)


@dataclass(frozen=True)
class Trial:
    """Inputs of every stage at one size, made in float32 so that all precisions get the same.

    picture, noised: [1, 3, H, W] in -1..1. latents: scaled [T, 4, h, w], to decode.
    """

    size: TrialSize
    picture: Tensor
    noised: Tensor
    condition: Condition
    noise: Tensor
    latents: Tensor

    def state(self, sigma: float) -> Tensor:
        """Return the noisy latents of noise level `sigma`."""
        return self.latents + sigma * self.noise

    def both(self) -> tuple[Condition, Condition]:
        """Return the conditions of a guided step: unconditional and conditional."""
        return self.condition.unconditional(), self.condition


@torch.no_grad()
def make_trial(model: SVDModel, size: TrialSize) -> Trial:
    """Return the inputs of all stages for a float32 `model`. Every frame has the latents of the picture."""
    picture = fit(as_batch(open_picture(PICTURE), "white"), size.width, size.height, "crop")[0]
    noised = augment(picture, AUGMENTATION, SEED)
    rows = _rows(model)
    condition = Condition(model.encode_image(picture), model.encode_latent(noised), rows)
    latents = (condition.latent * LATENT_SCALE).expand(size.frames, -1, -1, -1).contiguous()
    noise = start_noise(*size.latent, SEED)
    return Trial(size, picture, noised, condition.to("cpu"), noise, latents.cpu())


def synthetic_trial(model: SVDModel, size: TrialSize) -> Trial:
    """Return inputs of random numbers, for timing at sizes that nobody looks at."""
    generator = torch.Generator().manual_seed(SEED)
    frames, height, width = size.latent
    token = torch.randn(1, 1, model.config.unet.context_channels, generator=generator)
    condition = Condition(token, torch.randn(1, 4, height, width, generator=generator), _rows(model).cpu())
    noise = start_noise(frames, height, width, SEED)
    picture = torch.zeros(1, 3, size.height, size.width)
    return Trial(size, picture, picture, condition, noise, torch.randn(frames, 4, height, width, generator=generator))


def _rows(model: SVDModel) -> Tensor:
    """Return a motion vector that the UNet takes: the usual one, or zeros where a variant has another."""
    usual = model.embed_motion()
    width = model.config.unet.vector_channels
    return usual if usual.shape[1] == width else torch.zeros(1, width)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 in float32 on CUDA: TensorFloat32 would round the reference to 10 bits."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
