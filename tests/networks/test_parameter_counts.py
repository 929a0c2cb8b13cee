"""Numbers of weights by arithmetic equal those of the networks themselves."""

import pytest

from svd_core.networks.config import CoderConfig, ImageEncoderConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.parameter_counts import image_encoder_parameters, unet_parameters, vae_parameters
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

SMALL = CoderConfig(channels=32, channel_mult=(1, 2, 2), num_res_blocks=1, latent_channels=4)
UNETS = (
    UNetConfig(),
    UNetConfig(vector_channels=1280),
    UNetConfig(8, 4, 32, (1, 3), 1, (0,), 16, 24, 768),
    UNetConfig(12, 3, 64, (1,), 3, (), 8, 40, 96),
)
VAES = (
    VAEConfig(),
    VAEConfig(temporal=False, post_quant_conv=True),
    VAEConfig(SMALL, None),
    VAEConfig(None, SMALL, quant_conv=False),
    VAEConfig(SMALL, CoderConfig(64, (2, 1), 2, 8), quant_conv=False),
)
ENCODERS = (ImageEncoderConfig(), ImageEncoderConfig(56, 14, 64, 3, 16, 200, 32))


def made(network: type, config: object) -> int:
    return sum(parameter.numel() for parameter in network(config, device="meta").parameters())


@pytest.mark.parametrize("config", UNETS)
def test_the_weights_of_a_unet_are_counted(config: UNetConfig) -> None:
    assert unet_parameters(config) == made(UNet, config)


@pytest.mark.parametrize("config", VAES)
def test_the_weights_of_an_autoencoder_or_of_half_of_it_are_counted(config: VAEConfig) -> None:
    assert vae_parameters(config) == made(VAE, config)


@pytest.mark.parametrize("config", ENCODERS)
def test_the_weights_of_an_image_encoder_are_counted(config: ImageEncoderConfig) -> None:
    assert image_encoder_parameters(config) == made(ImageEncoder, config)
