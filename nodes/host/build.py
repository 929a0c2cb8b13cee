"""Build the networks of a checkpoint under the host's memory management: weights, precision, patchers."""

import math

import torch

from ...svd_core.checkpoints import Parts, read_state_dict, split_state_dict
from ...svd_core.checkpoints.controlnet import LoadedControlNet, load_controlnet
from ...svd_core.checkpoints.parts import Part
from ...svd_core.networks.image_encoder import ImageEncoder
from . import comfy as host
from . import quantised
from .unet import HostModel, HostUNet, host_unet_config
from .vae_and_clip import HostVAE, MissingPart, ReelClipVision, ReelVAE

AUTO = "auto"
EIGHT_BITS = torch.float8_e4m3fn
LARGEST = 448.0  # of EIGHT_BITS
PRECISIONS = {
    AUTO: None,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": EIGHT_BITS,
    **dict.fromkeys(quantised.FORMATS),
}


def fill(module: torch.nn.Module, part: Part, dtype: torch.dtype | None) -> torch.nn.Module:
    """Load the weights of a module built on the meta device, cast one at a time, without a copy where none is needed.

    A dtype of None keeps each as it is stored.
    """
    return _give(module, {key: part.fetch(key, dtype=dtype) for key in part})


def _give(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
    host.remember_dtypes(module)
    return module


def fill_in_eight_bits(module: torch.nn.Module, part: Part, rest: torch.dtype) -> torch.nn.Module:
    """Load weights as `fill` does, with matrices and kernels rounded to 8 bits, and norms and biases in `rest`.

    Norms and biases are small and lose most by rounding. Weights stored in 8 bits stay unchanged.
    """
    tensors = {}
    for key, shape in part.shapes.items():
        tensor = part.fetch(key)
        if tensor.dtype.itemsize > 1:
            matrix = len(shape) > 1
            tensor = tensor.float().clamp(-LARGEST, LARGEST).to(EIGHT_BITS) if matrix else tensor.to(rest)
        tensors[key] = tensor
    return _give(module, tensors)


def manage_unet(parts: Parts, wanted: torch.dtype | None, format: str | None = None):
    """Return the host's patcher around the UNet of a checkpoint, and the dtype in which it computes.

    format: of comfy-kitchen, to which matrices are rounded. Without it and `wanted`, a file in such a format stays so.
    """
    shapes = parts.unet.shapes
    parameters = sum(math.prod(shape) for shape in shapes.values())
    stored = parts.unet.fetch(next(iter(shapes))).dtype
    weight, compute = host.unet_dtypes(parameters, stored, wanted)
    tensors = None
    if format is not None:
        tensors = quantised.rounded(parts.unet, format, compute)
    elif wanted is None:
        tensors = quantised.as_stored(parts.unet, compute)
    weight = weight if tensors is None else compute
    ops = host.layer_ops(weight, compute, rounded=tensors is not None)
    unet = HostUNet(parts.config.unet, ops=ops, device="meta", dtype=weight)
    if tensors is not None:
        quantised.place(unet)
        _give(unet, tensors)
    elif wanted == EIGHT_BITS:
        fill_in_eight_bits(unet, parts.unet, compute)
    else:
        # Files in 8 bits store some tensors in higher precision; those stay unchanged.
        fill(unet, parts.unet, weight if weight.itemsize > 1 else None)
    unet.dtype = weight  # the host reads it from the network
    return host.wrap_unet(unet, HostModel, host_unet_config(parts.config.unet), compute), compute


def manage_vae(parts: Parts, wanted: torch.dtype | None) -> ReelVAE:
    """Return the VAE of a checkpoint as a host VAE."""
    dtype = host.vae_dtype(wanted)
    module = HostVAE(parts.config.vae, ops=host.casting_ops(), device="meta", dtype=dtype)
    return ReelVAE(fill(module, parts.vae, dtype), dtype)


def manage_image_encoder(parts: Parts, wanted: torch.dtype | None) -> ReelClipVision:
    """Return the image encoder of a checkpoint as a host CLIP_VISION."""
    dtype = host.image_encoder_dtype(wanted)
    module = ImageEncoder(parts.config.image_encoder, ops=host.casting_ops(), device="meta", dtype=dtype)
    return ReelClipVision(fill(module, parts.image_encoder, dtype), dtype)


def manage_controlnet(path: str) -> LoadedControlNet:
    """Return an SVD ControlNet of a file, with a patcher of the host as its `patcher`."""
    source = read_state_dict(path)
    stored = next(iter(source.values())).dtype
    weight, compute = host.unet_dtypes(sum(map(math.prod, source.shapes.values())), stored, None)
    loaded = load_controlnet(path, dtype=weight, ops=host.layer_ops(weight, compute))
    network = loaded.network
    network.compute_dtype = compute
    host.remember_dtypes(network)
    network.patcher = host.managed(network, "unet")
    return loaded


def own_decoder(vae):
    """Return `vae` with our decoder, if its weights are those of an SVD decoder that mixes frames, else `vae` itself.

    The host decodes as many frames at a time as fit in free memory, which changes the clip; our decoder never does.
    """
    if isinstance(vae, (ReelVAE, MissingPart)):
        return vae
    weights = vae.get_sd() if hasattr(vae, "get_sd") else {}
    decoder = {key: tensor for key, tensor in weights.items() if key.startswith("decoder.")}
    if "decoder.mid.block_1.mix_factor" not in decoder:
        return vae
    return manage_vae(split_state_dict(decoder, {}, name="the connected VAE"), None)
