"""Operations, weights and activations of every stage of a clip, from the sizes of the networks. Nothing is run."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from ..networks.activation_bytes import decoder_activation_bytes, unet_activation_bytes
from ..networks.attention import NUMBERS_PER_CALL
from ..networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig
from ..networks.image_encoder import ImageEncoder
from ..networks.unet import UNet
from ..networks.vae import VAE

SINGLE = 4
"""Bytes of a float32: the tower and the encoder run in it, as officially."""


@dataclass(frozen=True)
class Stage:
    """One stage: `network` is the part that it needs (or ""), flops of all its passes, bytes on the device.

    weights: of the network, wherever they lie; activations: at the peak, weights not counted.
    """

    name: str
    network: str
    flops: float
    weights: int
    activations: int
    passes: int = 1


@lru_cache(maxsize=16)
def parameters_of(network: type[nn.Module], config: object) -> int:
    """Number of weights of a network of that configuration."""
    return sum(p.numel() for p in network(config, device="meta").parameters())


def unet_blocks(config: UNetConfig) -> Iterator[tuple[int, int, int, bool]]:
    """Every residual block as (level, channels in, channels out, whether a transformer follows)."""
    base, last = config.model_channels, len(config.channel_mult) - 1
    skips, channels = [base], base
    for level, mult in enumerate(config.channel_mult):
        for _ in range(config.num_res_blocks):
            yield level, channels, mult * base, level in config.attention_levels
            channels = mult * base
            skips.append(channels)
        if level < last:
            skips.append(channels)
    yield last, channels, channels, True
    yield last, channels, channels, False
    for level in range(last, -1, -1):
        for _ in range(config.num_res_blocks + 1):
            yield level, channels + skips.pop(), config.channel_mult[level] * base, level in config.attention_levels
            channels = config.channel_mult[level] * base


def unet_flops(config: UNetConfig, frames: int, height: int, width: int) -> float:
    """Operations of one pass over one clip of latents [frames, 4, height, width], a multiply-add being two.

    Counted for our network: cross-attention to a single token costs nothing.
    """
    base = config.model_channels
    pixels = sides(height, width, len(config.channel_mult))
    total = sum(block_flops(block, pixels, frames) for block in unet_blocks(config))
    for level in range(1, len(config.channel_mult)):
        low, high = config.channel_mult[level - 1] * base, config.channel_mult[level] * base
        total += 2 * frames * 9 * (pixels[level] * low**2 + pixels[level - 1] * high**2)
    return total + 2 * frames * pixels[0] * 9 * base * (config.in_channels + config.out_channels)


def block_flops(block: tuple[int, int, int, bool], pixels: list[int], frames: int) -> float:
    """Operations of a block of `unet_blocks`; pixels: of every level (`sides`)."""
    level, channels_in, channels, attention = block
    area = pixels[level]
    tokens = frames * area
    shortcut = channels_in * channels if channels_in != channels else 0
    total = 2.0 * tokens * (9 * channels_in * channels + 9 * channels**2 + shortcut + 6 * channels**2)
    if attention:
        # Both projections, four linear layers for each attention, three feed-forward layers of twelve.
        total += 2 * tokens * channels**2 * (2 + 8 + 36) + 4 * channels * tokens * (area + frames)
    return total


def decoder_flops(
    config: CoderConfig, frames: int, height: int, width: int, temporal: bool = True, *, itemsize: int = 2
) -> float:
    """Operations of decoding latents [frames, 4, height, width].

    itemsize: bytes of a number; four are float32, where doubling takes four products for nine (`models.upsampling`).
    """
    levels = len(config.channel_mult)
    channels = config.channels * config.channel_mult[-1]
    over_time = 6 if temporal else 0
    area = height * width
    total = area * (18 * config.latent_channels * channels)
    total += 2 * 2 * area * channels**2 * (18 + over_time) + 8 * area * channels**2 + 4 * area**2 * channels
    for level in range(levels - 1, -1, -1):
        for _ in range(config.num_res_blocks + 1):
            out = config.channel_mult[level] * config.channels
            shortcut = channels * out if channels != out else 0
            total += 2 * area * (9 * channels * out + 9 * out**2 + shortcut + over_time * out**2)
            channels = out
        if level:
            area *= 4
            total += 2 * area * (4 if itemsize == SINGLE else 9) * channels**2
    return frames * (total + area * 18 * channels * 3)


def encoder_flops(config: CoderConfig, height: int, width: int) -> float:
    """Operations of encoding one picture to a latent of height x width."""
    area = height * width * 4 ** (len(config.channel_mult) - 1)
    channels = config.channels
    total = 18.0 * area * 3 * channels
    for level, mult in enumerate(config.channel_mult):
        for _ in range(config.num_res_blocks):
            out = mult * config.channels
            shortcut = channels * out if channels != out else 0
            total += 2 * area * (9 * channels * out + 9 * out**2 + shortcut)
            channels = out
        if level < len(config.channel_mult) - 1:
            area //= 4
            total += 18 * area * channels**2
    return total + area * channels**2 * (72 + 8) + 4 * area**2 * channels


def tower_flops(config: ImageEncoderConfig) -> float:
    """Operations of the image encoder on one picture."""
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    layer = 2 * tokens * config.width * (4 * config.width + 2 * config.mlp_channels) + 4 * tokens**2 * config.width
    return config.layers * layer + 2 * tokens * config.width * 3 * config.patch_size**2


def stages_of(
    config: SVDConfig,
    frames: int,
    width: int,
    height: int,
    *,
    steps: int = 25,
    guided: bool = True,
    itemsize: int = 2,
    strategy: str = "store",
    numbers_per_call: int = NUMBERS_PER_CALL,
    videos: int = 1,
) -> list[Stage]:
    """Every stage of one clip of `frames` pictures of width x height pixels, in order.

    itemsize: bytes of a weight and of an activation; strategy: of the decode, "recompute" runs the first temporal
    convolutions twice; guided: two branches a step, `videos` of them in a pass. Parts that the model lacks have no
    stage.
    """
    h, w = height // 8, width // 8
    stages = []
    if config.image_encoder is not None:
        tower = config.image_encoder
        tokens = (tower.image_size // tower.patch_size) ** 2 + 1
        stages.append(
            Stage(
                "image token",
                "image_encoder",
                tower_flops(tower),
                itemsize * parameters_of(ImageEncoder, tower),
                tokens * SINGLE * (2 * tower.width + 2 * tower.mlp_channels),
            )
        )
    vae = config.vae
    vae_weights = itemsize * parameters_of(VAE, vae) if vae is not None else 0
    if vae is not None and vae.encoder is not None:
        activations = 5 * SINGLE * vae.encoder.channels * height * width
        stages.append(Stage("image latent", "vae", encoder_flops(vae.encoder, h, w), vae_weights, activations))
    if config.unet is not None:
        branches = 2 if guided else 1
        activations = unet_activation_bytes(
            config.unet, frames, h, w, itemsize, videos=videos, numbers_per_call=numbers_per_call
        )
        flops = unet_flops(config.unet, frames, h, w) * branches * steps
        weights = itemsize * parameters_of(UNet, config.unet)
        stages.append(Stage("sampling", "unet", flops, weights, activations, passes=branches * steps // videos))
    if vae is not None and vae.decoder is not None:
        flops = decoder_flops(vae.decoder, frames, h, w, vae.temporal, itemsize=itemsize)
        if vae.temporal and strategy != "store":
            flops += decoder_first_convolutions(vae.decoder, frames, h, w)
        activations = decoder_activation_bytes(vae.decoder, frames, h, w, itemsize, strategy=strategy)
        stages.append(Stage(f"decode ({strategy})", "vae", flops, vae_weights, activations))
    # The frames in float32 before and after they are turned to 0..1; those wait in main memory.
    stages.append(Stage("output", "", 0.0, 0, 2 * SINGLE * 3 * frames * height * width))
    return stages


def decoder_first_convolutions(config: CoderConfig, frames: int, height: int, width: int) -> float:
    """Operations of the first temporal convolution of every block: what "recompute" and "host" do twice."""
    area, top = height * width, config.channels * config.channel_mult[-1]
    total = 2 * 6.0 * area * top**2
    for level in range(len(config.channel_mult) - 1, -1, -1):
        total += (config.num_res_blocks + 1) * 6 * area * (config.channels * config.channel_mult[level]) ** 2
        area *= 4
    return frames * total


def sides(height: int, width: int, levels: int) -> list[int]:
    """Pixels of every level; odd sides round up."""
    areas = []
    for _ in range(levels):
        areas.append(height * width)
        height, width = -(-height // 2), -(-width // 2)
    return areas
