"""Build the networks of a checkpoint in the care of the host: weights, precision, patchers."""

import math

import torch

from ...svd_core.checkpoints import Parts, split_state_dict
from ...svd_core.checkpoints.parts import Part
from ...svd_core.networks.image_encoder import ImageEncoder
from . import comfy as host
from .unet import HostModel, HostUNet, host_unet_config
from .vae_and_clip import HostVAE, ReelClipVision, ReelVAE

AUTO = "auto"


EIGHT_BITS = torch.float8_e4m3fn


LARGEST = 448.0  # of EIGHT_BITS


PRECISIONS = {
    AUTO: None,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": EIGHT_BITS,
}


def fill(module: torch.nn.Module, part: Part, dtype: torch.dtype | None) -> torch.nn.Module:
    """Give a module built on the meta device its weights, cast one at a time; those that fit already are not copied.

    dtype None keeps each as it is stored.
    """
    tensors = {key: part.fetch(key, dtype=dtype) for key in part}
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
    host.remember_dtypes(module)
    return module


def fill_in_eight_bits(module: torch.nn.Module, part: Part, rest: torch.dtype) -> torch.nn.Module:
    """As `fill`, matrices and kernels rounded to 8 bits; norms and biases, small and lost most on, kept in `rest`.

    What a file holds in 8 bits already stays as it is.
    """
    tensors = {}
    for key, shape in part.shapes.items():
        tensor = part.fetch(key)
        if tensor.dtype.itemsize > 1:
            matrix = len(shape) > 1
            tensor = tensor.float().clamp(-LARGEST, LARGEST).to(EIGHT_BITS) if matrix else tensor.to(rest)
        tensors[key] = tensor
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
    host.remember_dtypes(module)
    return module


def manage_unet(parts: Parts, wanted: torch.dtype | None):
    """The host's patcher around the UNet of a checkpoint, and the format in which it computes."""
    shapes = parts.unet.shapes
    parameters = sum(math.prod(shape) for shape in shapes.values())
    stored = parts.unet.fetch(next(iter(shapes))).dtype
    weight, compute = host.unet_dtypes(parameters, stored, wanted)
    unet = HostUNet(parts.config.unet, ops=host.layer_ops(weight, compute), device="meta", dtype=weight)
    if wanted == EIGHT_BITS:
        fill_in_eight_bits(unet, parts.unet, compute)
    else:
        # Files in 8 bits keep some tensors in more; those stay as they are.
        fill(unet, parts.unet, weight if weight.itemsize > 1 else None)
    unet.dtype = weight  # the host asks the network itself
    return host.wrap_unet(unet, HostModel, host_unet_config(parts.config.unet), compute), compute


def manage_vae(parts: Parts, wanted: torch.dtype | None) -> ReelVAE:
    """The VAE of a checkpoint as the host's VAE."""
    dtype = host.vae_dtype(wanted)
    module = HostVAE(parts.config.vae, ops=host.casting_ops(), device="meta", dtype=dtype)
    return ReelVAE(fill(module, parts.vae, dtype), dtype)


def manage_image_encoder(parts: Parts, wanted: torch.dtype | None) -> ReelClipVision:
    """The image encoder of a checkpoint as the host's CLIP_VISION."""
    dtype = host.image_encoder_dtype(wanted)
    module = ImageEncoder(parts.config.image_encoder, ops=host.casting_ops(), device="meta", dtype=dtype)
    return ReelClipVision(fill(module, parts.image_encoder, dtype), dtype)


def borrowed_vae(vae) -> ReelVAE | None:
    """Our decoder with the weights of a host's VAE, if that is SVD's with a decoder that mixes frames, else None.

    The host decodes as many frames at a time as happen to fit in free memory, which changes the clip; ours never does.
    """
    weights = vae.get_sd() if hasattr(vae, "get_sd") else {}
    decoder = {key: tensor for key, tensor in weights.items() if key.startswith("decoder.")}
    if "decoder.mid.block_1.mix_factor" not in decoder:
        return None
    return manage_vae(split_state_dict(decoder, {}, name="the connected VAE"), None)
