"""A UNet of a few channels with random weights, and conditions for it, for tests of how it is run."""

import torch

from svd_core.condition import Condition
from svd_core.model.model import SVDModel
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.networks.unet import UNet

TINY = UNetConfig(model_channels=32, channel_mult=(1, 2), attention_levels=(0,), head_channels=16, context_channels=24)
FRAMES, SIDE = 3, 8


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_model() -> SVDModel:
    """A model of 3 frames of 64x64 pixels whose estimates depend clearly on its condition."""
    torch.manual_seed(5)
    unet = UNet(TINY).requires_grad_(False)
    with torch.no_grad():
        unet.out["2"].weight.mul_(4)
    return SVDModel(unet, None, None, SVDConfig(TINY, None, None, frames=FRAMES, width=8 * SIDE, height=8 * SIDE))


def condition_for(model: SVDModel, seed: int = 0) -> Condition:
    """A random condition of one clip of `model`."""
    token = random(1, 1, model.config.unet.context_channels, seed=seed)
    latent = random(1, 4, model.config.height // 8, model.config.width // 8, seed=seed + 1)
    return Condition(token, latent, random(1, model.config.unet.vector_channels, seed=seed + 2))
