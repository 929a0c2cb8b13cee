"""Operations, weights and activations of every stage of a clip, computed from the sizes of the networks.

No network runs or is made, and torch is not needed. A multiply-add counts as two operations.
"""

from dataclasses import dataclass

from ..networks.activation_bytes import CHUNK_ELEMENTS, decoder_activation_bytes, unet_activation_bytes
from ..networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig
from ..networks.parameter_counts import image_encoder_parameters, unet_blocks, unet_parameters, vae_parameters

FLOAT32_BYTES = 4
"""Image encoder and VAE encoder run in float32, as in the official code."""


@dataclass(frozen=True)
class Stage:
    """One stage of a clip.

    network: the part it needs, or "". flops: operations of all its passes. weights: bytes of the network, on whatever
    device. activations: peak bytes on the device, without weights. passes: evaluations of the network. beside: bytes
    of the networks of adapters, which are on the device whenever this one is.
    """

    name: str
    network: str
    flops: float
    weights: int
    activations: int
    passes: int = 1
    beside: int = 0


def unet_flops(config: UNetConfig, frames: int, height: int, width: int) -> float:
    """Return the operations of one pass over one clip of latents [frames, 4, height, width].

    Cross-attention to a single token costs nothing here, because the network folds it into a constant.
    """
    base = config.model_channels
    pixels = level_pixels(height, width, len(config.channel_mult))
    total = sum(block_flops(block, pixels, frames) for block in unet_blocks(config))
    for level in range(1, len(config.channel_mult)):
        low, high = config.channel_mult[level - 1] * base, config.channel_mult[level] * base
        total += 2 * frames * 9 * (pixels[level] * low**2 + pixels[level - 1] * high**2)
    return total + 2 * frames * pixels[0] * 9 * base * (config.in_channels + config.out_channels)


def block_flops(block: tuple[int, int, int, bool], pixels: list[int], frames: int) -> float:
    """Return the operations of a block of `unet_blocks`. pixels: per level, see `level_pixels`."""
    level, channels_in, channels, attention = block
    area = pixels[level]
    tokens = frames * area
    shortcut = channels_in * channels if channels_in != channels else 0
    total = 2.0 * tokens * (9 * channels_in * channels + 9 * channels**2 + shortcut + 6 * channels**2)
    if attention:
        # Two projections, four linear layers for each of two attentions, three feed-forward layers of twelve each.
        total += 2 * tokens * channels**2 * (2 + 8 + 36) + 4 * channels * tokens * (area + frames)
    return total


def decoder_flops(
    config: CoderConfig, frames: int, height: int, width: int, temporal: bool = True, *, itemsize: int = 2
) -> float:
    """Return the operations of decoding latents [frames, 4, height, width].

    itemsize: bytes per element. In float32 (4), doubling needs 4 products instead of 9
    (`networks.layers.enlarge_and_convolve`).
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
            total += 2 * area * (4 if itemsize == FLOAT32_BYTES else 9) * channels**2
    return frames * (total + area * 18 * channels * 3)


def encoder_flops(config: CoderConfig, height: int, width: int) -> float:
    """Return the operations of encoding one picture to a latent of height x width."""
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


def image_encoder_flops(config: ImageEncoderConfig) -> float:
    """Return the operations of the image encoder on one picture."""
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
    chunk_elements: int = CHUNK_ELEMENTS,
    videos: int = 1,
) -> list[Stage]:
    """Return every stage of one clip of `frames` frames of width x height pixels, in order.

    guided: CFG with two passes per step; `videos` of them (1 or 2) share one UNet pass. itemsize: bytes per weight and
    activation. strategy: of the decode; "recompute" and "host" run the first temporal convolutions twice.
    chunk_elements: see `networks.attention.FeedForward`. Parts that the model lacks have no stage.
    """
    h, w = height // 8, width // 8
    stages = []
    if config.image_encoder is not None:
        encoder = config.image_encoder
        tokens = (encoder.image_size // encoder.patch_size) ** 2 + 1
        stages.append(
            Stage(
                "image token",
                "image_encoder",
                image_encoder_flops(encoder),
                itemsize * image_encoder_parameters(encoder),
                tokens * FLOAT32_BYTES * (2 * encoder.width + 2 * encoder.mlp_channels),
            )
        )
    vae = config.vae
    vae_weights = itemsize * vae_parameters(vae) if vae is not None else 0
    if vae is not None and vae.encoder is not None:
        activations = 5 * FLOAT32_BYTES * vae.encoder.channels * height * width
        stages.append(Stage("image latent", "vae", encoder_flops(vae.encoder, h, w), vae_weights, activations))
    if config.unet is not None:
        passes = 2 * steps if guided else steps
        activations = unet_activation_bytes(
            config.unet, frames, h, w, itemsize, videos=videos, chunk_elements=chunk_elements
        )
        flops = unet_flops(config.unet, frames, h, w) * passes
        weights = itemsize * unet_parameters(config.unet)
        stages.append(Stage("sampling", "unet", flops, weights, activations, passes=passes // videos))
    if vae is not None and vae.decoder is not None:
        flops = decoder_flops(vae.decoder, frames, h, w, vae.temporal, itemsize=itemsize)
        if vae.temporal and strategy != "store":
            flops += decoder_first_convolutions(vae.decoder, frames, h, w)
        activations = decoder_activation_bytes(vae.decoder, frames, h, w, itemsize, strategy=strategy)
        stages.append(Stage(f"decode ({strategy})", "vae", flops, vae_weights, activations))
    # The frames in float32, before and after scaling to 0..1.
    stages.append(Stage("output", "", 0.0, 0, 2 * FLOAT32_BYTES * 3 * frames * height * width))
    return stages


def decoder_first_convolutions(config: CoderConfig, frames: int, height: int, width: int) -> float:
    """Return the operations of the first temporal convolution of every block, which "recompute" and "host" repeat."""
    area, top = height * width, config.channels * config.channel_mult[-1]
    total = 2 * 6.0 * area * top**2
    for level in range(len(config.channel_mult) - 1, -1, -1):
        total += (config.num_res_blocks + 1) * 6 * area * (config.channels * config.channel_mult[level]) ** 2
        area *= 4
    return frames * total


def level_pixels(height: int, width: int, levels: int) -> list[int]:
    """Return the number of latent pixels per level; odd sides round up when halved."""
    areas = []
    for _ in range(levels):
        areas.append(height * width)
        height, width = -(-height // 2), -(-width // 2)
    return areas
