"""Sizes of the networks, as detected in a checkpoint. Plain data without torch."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class UNetConfig:
    """Spatio-temporal UNet (spec section 4). Defaults are SVD's own."""

    in_channels: int = 8
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    head_channels: int = 64
    context_channels: int = 1024
    vector_channels: int = 768


@dataclass(frozen=True)
class CoderConfig:
    """One half of the autoencoder, encoder or decoder (spec sections 6.1 to 6.3)."""

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4


@dataclass(frozen=True)
class VAEConfig:
    """Autoencoder (spec section 6).

    Decoders with `temporal` mix frames and have no `post_quant_conv`; frame decoders are the opposite. `encoder` or
    `decoder` is None if a checkpoint contains only the other half.
    """

    encoder: CoderConfig | None = field(default_factory=CoderConfig)
    decoder: CoderConfig | None = field(default_factory=CoderConfig)
    temporal: bool = True
    quant_conv: bool = True
    post_quant_conv: bool = False


@dataclass(frozen=True)
class ImageEncoderConfig:
    """OpenCLIP image encoder (spec section 5). Defaults are ViT-H/14."""

    image_size: int = 224
    patch_size: int = 14
    width: int = 1280
    layers: int = 32
    head_channels: int = 80
    mlp_channels: int = 5120
    output_channels: int = 1024


@dataclass(frozen=True)
class SVDConfig:
    """A whole model: its networks, variant and native clip format.

    A network is None if the checkpoint does not contain it. `variant` is one of svd, svd_xt, svd_xt_1_1, sv3d_u,
    sv3d_p, animatelcm, mimicmotion, controlnext, depthcrafter, normalcrafter, nano, custom. `width` and `height` are
    in pixels. `control_scale` multiplies the noise levels at which imposed signals (camera, drag) are released; below 1
    for a model that leaves a signal at lower noise than SVD.
    """

    unet: UNetConfig | None = field(default_factory=UNetConfig)
    vae: VAEConfig | None = field(default_factory=VAEConfig)
    image_encoder: ImageEncoderConfig | None = field(default_factory=ImageEncoderConfig)
    variant: str = "custom"
    frames: int = 14
    width: int = 1024
    height: int = 576
    control_scale: float = 1.0
