"""The sizes of nano's networks, and small helpers shared by the trainers."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from svd_core.files import replacing
from svd_core.networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.vae import VAE

from .first_weights import zero

FRAMES = 8
SIZE = 128  # pixels, native width and height
LATENT = SIZE // 8
HELD_OUT_SEED = 77_777  # of scenes to measure on; training seeds are small numbers

# GroupNorm always has 32 groups. With fewer than two to four channels per group the mean colour is lost, so the
# networks are wide and shallow: 64 channels in the UNet, 96 and 192 in the decoder, 128 at the end of the encoder.
UNET = UNetConfig(model_channels=64, channel_mult=(1, 1, 1, 1), num_res_blocks=1, head_channels=64, context_channels=64)
VAE_CLIP = VAEConfig(
    encoder=CoderConfig(channels=64, channel_mult=(1, 1, 2, 2), num_res_blocks=2),
    decoder=CoderConfig(channels=96, channel_mult=(1, 1, 2, 2), num_res_blocks=0),
)
# The first stage of VAE training uses single pictures, so it runs the decoder without its temporal half.
VAE_FRAME = replace(VAE_CLIP, temporal=False, quant_conv=False)
IMAGE_ENCODER = ImageEncoderConfig(
    image_size=224, patch_size=32, width=64, layers=2, head_channels=32, mlp_channels=256, output_channels=64
)
CONFIG = SVDConfig(UNET, VAE_CLIP, IMAGE_ENCODER, variant="nano", frames=FRAMES, width=SIZE, height=SIZE)


def prepare_cpu(threads: int) -> None:
    """Set threads, and flush denormal numbers, which zero-initialised layers produce and which are slow."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def temporal_from_frame(frame_state: dict[str, Tensor], clip_vae: nn.Module) -> None:
    """Load the weights of a frame VAE into one with a temporal decoder, whose temporal half starts as the identity."""
    missing, unexpected = clip_vae.load_state_dict(frame_state, strict=False)
    if unexpected or any("time_" not in key and "mix_factor" not in key and "quant" not in key for key in missing):
        raise ValueError(f"the frame VAE does not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")
    for name, module in clip_vae.decoder.named_modules():
        if name.endswith("out_layers.3"):
            zero(module)
    mixing = clip_vae.decoder.conv_out.time_mix_conv
    zero(mixing)
    with torch.no_grad():
        mixing.weight[range(3), range(3), 1] = 1.0
        moments = clip_vae.quant_conv.weight.shape[0]
        clip_vae.quant_conv.weight.copy_(torch.eye(moments)[:, :, None, None])
        clip_vae.quant_conv.bias.zero_()


def load_frame_vae(path: Path) -> VAE:
    """Return the frozen autoencoder without temporal half from a training checkpoint."""
    vae = VAE(VAE_FRAME).requires_grad_(False)
    vae.load_state_dict(torch.load(path, weights_only=True)["vae"])
    return vae


@torch.no_grad()
def scale_latents(vae: VAE, factor: Tensor | float) -> None:
    """Multiply the latents of an autoencoder by a factor, one or [4], by changing its weights; pictures stay."""
    factor = torch.as_tensor(factor).expand(4)
    vae.encoder.conv_out.weight[:4] *= factor[:, None, None, None]
    vae.encoder.conv_out.bias[:4] *= factor
    vae.decoder.conv_in.weight /= factor[None, :, None, None]


def save_checkpoint(path: Path, **content) -> None:
    """Write a training checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(content, temporary)


def psnr(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two tensors in -1..1."""
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean()))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move averaged weights towards the trained ones after `step` steps; early steps move them faster."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
