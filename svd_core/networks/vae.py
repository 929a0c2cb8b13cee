"""The autoencoder: an encoder for pictures, and a decoder for frames or whole clips (spec section 6)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from .autoencoder_blocks import (
    FRAME_EPS,
    FrameDownsample,
    FrameResidualBlock,
    FrameUpsample,
    Middle,
    VideoResidualBlock,
)
from .config import CoderConfig, VAEConfig
from .layers import GROUPS, convolve_clip, norm_silu, temporal_convolution

LATENT_SCALE = 0.18215
"""Sampled latents are VAE latents times this factor; conditioning latents are not scaled (spec section 6, trap 2)."""

RGB = 3


class Encoder(nn.Module):
    """Encoder of a picture to the moments of its posterior."""

    def __init__(self, config: CoderConfig, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"ops": ops, "device": device, "dtype": dtype}
        layer_place = {"device": device, "dtype": dtype}
        self.conv_in = ops.Conv2d(RGB, config.channels, 3, padding=1, **layer_place)
        self.down = nn.ModuleList()
        channels = config.channels
        for level, mult in enumerate(config.channel_mult):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks):
                blocks.append(FrameResidualBlock(channels, mult * config.channels, **place))
                channels = mult * config.channels
            stage = nn.ModuleDict({"block": blocks})
            if level < len(config.channel_mult) - 1:
                stage["downsample"] = FrameDownsample(channels, **place)
            self.down.append(stage)
        self.mid = Middle(channels, FrameResidualBlock, **place)
        self.norm_out = ops.GroupNorm(GROUPS, channels, eps=FRAME_EPS, **layer_place)
        self.conv_out = ops.Conv2d(channels, 2 * config.latent_channels, 3, padding=1, **layer_place)

    def forward(self, image: Tensor) -> Tensor:
        """Return the moments [B, 2 * latent channels, H/8, W/8] of image [B, 3, H, W] in -1..1."""
        h = self.conv_in(image)
        for stage in self.down:
            for block in stage["block"]:
                h = block(h, 1)
            if "downsample" in stage:
                h = stage["downsample"](h)
        return self.conv_out(norm_silu(self.norm_out, self.mid(h, 1)))


class _FrameMixing:
    """Output convolution, with a second one that mixes each pixel over three frames."""

    def mix_over(self, x: Tensor, num_frames: int) -> Tensor:
        """Return x [B*T, 3, H, W] mixed over neighbouring frames."""
        return convolve_clip(self.time_mix_conv, x, num_frames)

    def reset_parameters(self) -> None:
        """Draw initial weights, but none on the meta device, where that makes torch import its compiler."""
        if not self.weight.is_meta:
            super().reset_parameters()


class FrameMixingConvolution(_FrameMixing, nn.Conv2d):
    """The convolution on PyTorch's own layer; it has a name in this module, so that a model can be pickled."""


@cache
def _frame_mixing_class(convolution: type) -> type:
    if getattr(convolution, "original", convolution) is nn.Conv2d:  # a checkpoint's empty network has its own class
        return FrameMixingConvolution
    return type("FrameMixingConvolution", (_FrameMixing, convolution), {})


class Decoder(nn.Module):
    """Decoder of latents to pictures; a `temporal` decoder mixes neighbouring frames."""

    def __init__(self, config: CoderConfig, temporal: bool, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"ops": ops, "device": device, "dtype": dtype}
        layer_place = {"device": device, "dtype": dtype}
        block = VideoResidualBlock if temporal else FrameResidualBlock
        self.temporal = temporal
        channels = config.channels * config.channel_mult[-1]
        self.conv_in = ops.Conv2d(config.latent_channels, channels, 3, padding=1, **layer_place)
        self.mid = Middle(channels, block, **place)
        stages = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks + 1):
                blocks.append(block(channels, mult * config.channels, **place))
                channels = mult * config.channels
            stage = nn.ModuleDict({"block": blocks})
            if level > 0:
                stage["upsample"] = FrameUpsample(channels, **place)
            stages.append(stage)
        self.up = nn.ModuleList(reversed(stages))  # keys count levels upwards, execution counts down (spec trap 19)
        self.norm_out = ops.GroupNorm(GROUPS, channels, eps=FRAME_EPS, **layer_place)
        output = _frame_mixing_class(ops.Conv2d) if temporal else ops.Conv2d
        self.conv_out = output(channels, RGB, 3, padding=1, **layer_place)
        if temporal:
            self.conv_out.time_mix_conv = temporal_convolution(RGB, RGB, **place)

    def stages(self) -> Iterator[nn.Module]:
        """Yield the layers between the first and the last convolution, in execution order."""
        yield from (self.mid.block_1, self.mid.attn_1, self.mid.block_2)
        for stage in reversed(self.up):
            yield from stage["block"]
            if "upsample" in stage:
                yield stage["upsample"]

    def to_image(self, h: Tensor) -> Tensor:
        """Return the last norm and convolution of each frame, [N, C, H, W] -> [N, 3, H, W], before any mixing."""
        return self.conv_out(norm_silu(self.norm_out, h))

    def forward(self, latent: Tensor, num_frames: int) -> Tensor:
        """Decode all frames at once: latent [B*T, latent channels, h, w] -> [B*T, 3, 8h, 8w], about -1..1."""
        h = self.conv_in(latent)
        for layer in self.stages():
            h = layer(h, num_frames) if isinstance(layer, FrameResidualBlock) else layer(h)
        image = self.to_image(h)
        return self.conv_out.mix_over(image, num_frames) if self.temporal else image


class VAE(nn.Module):
    """Encoder and decoder, with the 1x1 convolutions around the latent that the checkpoint contains."""

    def __init__(self, config: VAEConfig, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        place = {"ops": ops, "device": device, "dtype": dtype}
        layer_place = {"device": device, "dtype": dtype}
        if config.encoder is not None:
            self.encoder = Encoder(config.encoder, **place)
            if config.quant_conv:
                moments = 2 * config.encoder.latent_channels
                self.quant_conv = ops.Conv2d(moments, moments, 1, **layer_place)
        if config.decoder is not None:
            self.decoder = Decoder(config.decoder, config.temporal, **place)
            if config.post_quant_conv:
                latent = config.decoder.latent_channels
                self.post_quant_conv = ops.Conv2d(latent, latent, 1, **layer_place)

    def moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (clamped to -30..20) of the posterior. image: [B, 3, H, W] in -1..1."""
        # Convolutions round differently per memory layout. Pictures are [H, W, 3] in memory everywhere.
        moments = self.encoder(image.contiguous(memory_format=torch.channels_last))
        if self.config.quant_conv:
            moments = self.quant_conv(moments)
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode(self, image: Tensor) -> Tensor:
        """Return the mode of the posterior [B, 4, H/8, W/8], not scaled by LATENT_SCALE. image: [B, 3, H, W], -1..1."""
        return self.moments(image)[0]

    def encoder_in_float32(self) -> "VAE":
        """Return this VAE, or in half precision a copy of its encoder half in float32 (34 M weights for SVD)."""
        stored = self.encoder.conv_in.weight
        if stored.dtype == torch.float32:
            return self
        copy = VAE(replace(self.config, decoder=None), device="meta", dtype=torch.float32)
        weights = self.state_dict()
        copy.load_state_dict({name: weights[name].float() for name in copy.state_dict()}, assign=True)
        return copy

    def before_decoder(self, latent: Tensor) -> Tensor:
        """Return the decoder's input: the latent, through its 1x1 convolution if there is one (spec trap 24)."""
        latent = latent.contiguous()  # one memory layout, as in `moments`
        return self.post_quant_conv(latent) if self.config.post_quant_conv else latent

    def decode(self, latent: Tensor, num_frames: int) -> Tensor:
        """Decode all frames at once; `model.decode` needs far less memory.

        latent: [B*T, 4, h, w], divided by LATENT_SCALE. Returns [B*T, 3, 8h, 8w], about -1..1.
        """
        return self.decoder(self.before_decoder(latent), num_frames)
