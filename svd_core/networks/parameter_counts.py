"""Numbers of weights of the networks, by arithmetic: no network is made, and torch is not needed."""

from collections.abc import Iterator

from .config import CoderConfig, ImageEncoderConfig, UNetConfig, VAEConfig

RGB = 3


def unet_blocks(config: UNetConfig) -> Iterator[tuple[int, int, int, bool]]:
    """Yield every residual block as (level, channels in, channels out, whether a transformer follows)."""
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


def unet_parameters(config: UNetConfig) -> int:
    """Return the number of weights of a UNet."""
    base, width, context = config.model_channels, 4 * config.model_channels, config.context_channels
    embeddings = _linear(base, width) + _linear(config.vector_channels, width) + 2 * _linear(width, width)
    ends = _convolution(config.in_channels, base, 9) + _norm(base) + _convolution(base, config.out_channels, 9)
    total = embeddings + ends
    for _, channels_in, channels, attention in unet_blocks(config):
        total += _frame_block(channels_in, channels) + _temporal_half(channels) + 2 * _linear(width, channels)
        total += _transformer(channels, context) if attention else 0
    for level in range(1, len(config.channel_mult)):
        low, high = config.channel_mult[level - 1] * base, config.channel_mult[level] * base
        total += _convolution(low, low, 9) + _convolution(high, high, 9)
    return total


def vae_parameters(config: VAEConfig) -> int:
    """Return the number of weights of an autoencoder, or of the half that there is."""
    total = 0
    if config.encoder is not None:
        moments = 2 * config.encoder.latent_channels
        total += _encoder(config.encoder) + (_convolution(moments, moments, 1) if config.quant_conv else 0)
    if config.decoder is not None:
        latent = config.decoder.latent_channels
        total += _decoder(config.decoder, config.temporal)
        total += _convolution(latent, latent, 1) if config.post_quant_conv else 0
    return total


def image_encoder_parameters(config: ImageEncoderConfig) -> int:
    """Return the number of weights of an image encoder."""
    width, hidden = config.width, config.mlp_channels
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    layer = 2 * _norm(width) + _linear(width, 3 * width) + _linear(width, width)
    layer += _linear(width, hidden) + _linear(hidden, width)
    patches = RGB * width * config.patch_size**2
    return patches + (1 + tokens) * width + 2 * _norm(width) + config.layers * layer + width * config.output_channels


def _linear(channels_in: int, channels_out: int) -> int:
    return channels_in * channels_out + channels_out


def _convolution(channels_in: int, channels_out: int, taps: int) -> int:
    return taps * channels_in * channels_out + channels_out


def _norm(channels: int) -> int:
    return 2 * channels


def _frame_block(channels_in: int, channels: int) -> int:
    """Return the weights of a residual block over single frames, without a projection of the embedding."""
    shortcut = _convolution(channels_in, channels, 1) if channels_in != channels else 0
    convolutions = _convolution(channels_in, channels, 9) + _convolution(channels, channels, 9)
    return _norm(channels_in) + _norm(channels) + convolutions + shortcut


def _temporal_half(channels: int) -> int:
    """Return the weights of a temporal residual block with its blend, without a projection of the embedding."""
    return 2 * (_norm(channels) + _convolution(channels, channels, 3)) + 1


def _transformer(channels: int, context: int) -> int:
    own = 4 * channels**2 + channels
    cross = 2 * channels**2 + 2 * context * channels + channels
    feed_forward = _linear(channels, 8 * channels) + _linear(4 * channels, channels)
    # Three norms, two attentions and a feed-forward layer over pixels; one norm and feed-forward layer more over time.
    blocks = 7 * _norm(channels) + 2 * (own + cross) + 3 * feed_forward
    positions = _linear(channels, 4 * channels) + _linear(4 * channels, channels)
    return _norm(channels) + 2 * _linear(channels, channels) + blocks + positions + 1


def _middle(channels: int, temporal: bool) -> int:
    block = _frame_block(channels, channels) + (_temporal_half(channels) if temporal else 0)
    return 2 * block + _norm(channels) + 4 * _convolution(channels, channels, 1)


def _encoder(config: CoderConfig) -> int:
    channels = config.channels
    total = _convolution(RGB, channels, 9)
    for level, mult in enumerate(config.channel_mult):
        for _ in range(config.num_res_blocks):
            total += _frame_block(channels, mult * config.channels)
            channels = mult * config.channels
        if level < len(config.channel_mult) - 1:
            total += _convolution(channels, channels, 9)
    last = _norm(channels) + _convolution(channels, 2 * config.latent_channels, 9)
    return total + _middle(channels, temporal=False) + last


def _decoder(config: CoderConfig, temporal: bool) -> int:
    channels = config.channels * config.channel_mult[-1]
    total = _convolution(config.latent_channels, channels, 9) + _middle(channels, temporal)
    for level in range(len(config.channel_mult) - 1, -1, -1):
        for _ in range(config.num_res_blocks + 1):
            out = config.channel_mult[level] * config.channels
            total += _frame_block(channels, out) + (_temporal_half(out) if temporal else 0)
            channels = out
        if level > 0:
            total += _convolution(channels, channels, 9)
    total += _norm(channels) + _convolution(channels, RGB, 9)
    return total + (_convolution(RGB, RGB, 3) if temporal else 0)


HINT_WIDTHS = (16, 32, 96, 256)  # of an SVD ControlNet's hint


def transformer_widths(config: UNetConfig) -> list[int]:
    """Return the channels of every transformer of a UNet."""
    return [channels for _, _, channels, attention in unet_blocks(config) if attention]


def controlnet_parameters(config: UNetConfig) -> int:
    """Return the number of weights of an SVD ControlNet: the downward half, the hint and a 1x1 layer per skip."""
    base, width, mults = config.model_channels, 4 * config.model_channels, config.channel_mult
    total = _linear(base, width) + _linear(config.vector_channels, width) + 2 * _linear(width, width)
    total += _convolution(config.in_channels, base, 9) + _convolution(base, base, 1)
    down = len(mults) * config.num_res_blocks
    for index, (_, channels_in, channels, attention) in enumerate(list(unet_blocks(config))[: down + 2]):
        total += _frame_block(channels_in, channels) + _temporal_half(channels) + 2 * _linear(width, channels)
        total += _transformer(channels, config.context_channels) if attention else 0
        total += _convolution(channels, channels, 1) if index <= down else 0
    for mult in mults[:-1]:
        total += _convolution(mult * base, mult * base, 9) + _convolution(mult * base, mult * base, 1)
    total += _convolution(RGB, HINT_WIDTHS[0], 9) + _convolution(HINT_WIDTHS[-1], base, 9)
    for narrow, wide in zip(HINT_WIDTHS, HINT_WIDTHS[1:], strict=False):
        total += _convolution(narrow, narrow, 9) + _convolution(narrow, wide, 9)
    return total


def motionctrl_parameters(config: UNetConfig) -> int:
    """Return the number of weights of MotionCtrl's camera blocks."""
    cross = (2 * width**2 + 2 * config.context_channels * width + width for width in transformer_widths(config))
    return sum(cross) + sum(_norm(width) + _linear(width + 12, width) for width in transformer_widths(config))


def cameractrl_parameters(config: UNetConfig, frames: int = 25) -> int:
    """Return the number of weights of CameraCtrl for clips of up to `frames` frames, with its table of positions."""
    widths = [config.model_channels * mult for mult in config.channel_mult]
    total = sum(_linear(width, width) for width in transformer_widths(config)) + _convolution(384, widths[0], 9)
    for before, width in zip((widths[0], *widths), widths, strict=False):
        total += _convolution(before, width, 1) if before != width else 0
        block = _convolution(width, width, 9) + _convolution(width, width, 1)
        attention = 2 * _norm(width) + 3 * width**2 + _linear(width, width) + frames * width
        total += 2 * (block + attention + _linear(width, 8 * width) + _linear(4 * width, width))
    return total


def backward_motion_parameters(config: UNetConfig) -> int:
    """Return the number of weights of Generative Inbetweening's backward motion."""
    return sum(2 * width**2 + width for width in transformer_widths(config))


MIMICMOTION_PARAMETERS, CONTROLNEXT_PARAMETERS = 205_557, 3_526_400  # of the published pose networks
