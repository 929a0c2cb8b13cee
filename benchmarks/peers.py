"""The same networks in diffusers, transformers and ComfyUI, sharing the tensors of our model without a copy."""

import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from svd_core.checkpoints.names import image_encoder_from_folder, unet_from_folder, vae_from_folder
from svd_core.model.model import SVDModel
from svd_core.networks.config import SVDConfig

RESIDUAL_EPS = 1e-5
"""Epsilon of the official residual blocks. diffusers uses 1e-6, which would fail the gate at the same speed."""


def empty_unet(config: SVDConfig) -> nn.Module:
    """Return diffusers' UNet of these sizes on the meta device."""
    import diffusers

    widths = tuple(config.unet.model_channels * mult for mult in config.unet.channel_mult)
    with torch.device("meta"):
        return diffusers.UNetSpatioTemporalConditionModel(
            block_out_channels=widths,
            cross_attention_dim=config.unet.context_channels,
            num_attention_heads=tuple(width // config.unet.head_channels for width in widths),
            num_frames=config.frames,
        )


def empty_vae(config: SVDConfig) -> nn.Module:
    """Return diffusers' autoencoder of these sizes on the meta device."""
    import diffusers

    coder = config.vae.decoder
    widths = tuple(coder.channels * mult for mult in coder.channel_mult)
    with torch.device("meta"):
        return diffusers.AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=coder.num_res_blocks,
        )


def image_encoder_settings(config: SVDConfig):
    """Return transformers' configuration of the image encoder."""
    import transformers

    encoder = config.image_encoder
    return transformers.CLIPVisionConfig(
        hidden_size=encoder.width,
        intermediate_size=encoder.mlp_channels,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.width // encoder.head_channels,
        image_size=encoder.image_size,
        patch_size=encoder.patch_size,
        projection_dim=encoder.output_channels,
        hidden_act="gelu",
    )


def diffusers_unet(model: SVDModel) -> nn.Module:
    """Return diffusers' UNet on our tensors, with the official epsilon in its norms."""
    config = model.config.unet
    widths = tuple(config.model_channels * mult for mult in config.channel_mult)
    unet = empty_unet(model.config)
    ours = _tensors(model.unet)
    ups = frozenset(
        len(widths) - 1 - level for level in config.attention_levels
    )  # up blocks run from the deepest level
    assign(unet, {key: ours[unet_from_folder(key, config.num_res_blocks, ups)] for key in unet.state_dict()})
    for name, block in unet.named_modules():
        if name.endswith("_res_block"):
            block.norm1.eps = block.norm2.eps = RESIDUAL_EPS
    return unet.eval()


def diffusers_vae(model: SVDModel) -> nn.Module:
    """Return diffusers' autoencoder on our tensors."""
    vae, ours = empty_vae(model.config), _tensors(model.vae)
    widths = model.config.vae.decoder.channel_mult
    assign(vae, {key: ours[vae_from_folder(key, len(widths))] for key in vae.state_dict()})
    return vae.eval()


def transformers_image_encoder(model: SVDModel) -> nn.Module:
    """Return transformers' image encoder with our weights; its projections are views of ours."""
    import transformers

    settings = image_encoder_settings(model.config)
    encoder = transformers.CLIPVisionModelWithProjection(settings)  # has buffers that no file contains, so not on meta
    ours = _tensors(model.image_encoder)
    found: dict[str, Tensor] = {}
    for key, old in encoder.state_dict().items():
        # Newer versions of transformers drop the prefix `vision_model.`.
        place = image_encoder_from_folder(key) or image_encoder_from_folder(f"vision_model.{key}")
        if place is None:
            found[key] = old
            continue
        tensor = ours[place[0]]
        if ".in_proj_" in place[0]:
            tensor = tensor.chunk(3)[place[1]]
        found[key] = tensor.t() if place[0] == "proj" else tensor
    assign(encoder, found)
    return encoder.to(next(model.image_encoder.parameters()).device).eval()


def comfy_folder() -> Path | None:
    """Return the folder in COMFYUI_DIR, or None if it is not set."""
    folder = os.environ.get("COMFYUI_DIR", "")
    return Path(folder) if folder else None


def import_comfy(device: torch.device) -> None:
    """Make `comfy` from COMFYUI_DIR importable, configured for the device."""
    folder = comfy_folder()
    if folder is None or not (folder / "comfy").is_dir():
        raise FileNotFoundError(f"COMFYUI_DIR is no ComfyUI checkout (got {folder}); set it to the folder with main.py")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    from comfy.cli_args import args  # must be set before the rest is imported

    args.cpu = device.type == "cpu"


def comfy_unet(model: SVDModel) -> nn.Module:
    """Return ComfyUI's UNet on our tensors, configured by its own detection."""
    weight = next(model.unet.parameters())
    import_comfy(weight.device)
    import comfy.model_detection
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    ours = _tensors(model.unet)
    config = comfy.model_detection.detect_unet_config(ours, "")
    config |= {"num_heads": -1, "num_head_channels": model.config.unet.head_channels, "attn_precision": torch.float32}
    unet = UNetModel(**config | {"dtype": weight.dtype, "device": "meta", "operations": comfy.ops.disable_weight_init})
    assign(unet, {key: ours[key] for key in unet.state_dict()})
    return unet.eval()


def comfy_decoder(model: SVDModel) -> nn.Module:
    """Return ComfyUI's video decoder on our tensors."""
    weight = model.vae.decoder.conv_in.weight
    import_comfy(weight.device)
    from comfy.ldm.modules.temporal_ae import VideoDecoder

    coder = model.config.vae.decoder
    with torch.device("meta"):
        decoder = VideoDecoder(
            ch=coder.channels, out_ch=3, ch_mult=coder.channel_mult, num_res_blocks=coder.num_res_blocks,
            attn_resolutions=[], dropout=0.0, in_channels=3, resolution=256, z_channels=coder.latent_channels,
            double_z=True, video_kernel_size=[3, 1, 1], alpha=0.0,
        )  # fmt: skip
    ours = _tensors(model.vae)
    assign(decoder, {key: ours[f"decoder.{key}"] for key in decoder.state_dict()})
    return decoder.eval()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach() for key, value in module.state_dict().items()}


def assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Assign these tensors to a network without a copy, viewed in its shapes where only axes of length 1 differ."""
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    tensors = {key: value if value.shape == shapes[key] else value.view(shapes[key]) for key, value in tensors.items()}
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
