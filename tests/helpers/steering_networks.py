"""Small random networks that steer nano, as files: a ControlNet, MotionCtrl, backward motion."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from svd_core.checkpoints.adapters import stored_place
from svd_core.checkpoints.controlnet import save_controlnet
from svd_core.networks.backward_motion import BackwardMotion
from svd_core.networks.config import UNetConfig
from svd_core.networks.controlnet import ControlNet
from svd_core.networks.motionctrl import MotionCtrl, block_name
from svd_core.networks.unet import transformer_places


def write_networks(folder: Path, config: UNetConfig) -> dict[str, str]:
    """Write a network of every kind for a UNet of that configuration; return their paths by the names of Steering."""
    torch.manual_seed(7)
    widths = {at.place: at.channels for at in transformer_places(config)}
    paths = {name: folder / f"{name}.safetensors" for name in ("controlnet", "camera_weights", "between_weights")}
    save_controlnet(drawn(ControlNet(config)), paths["controlnet"], dtype=torch.float16)
    motionctrl = drawn(MotionCtrl(widths, config.head_channels, config.context_channels))
    layer = ".1.time_stack.0."
    _write(
        motionctrl, paths["camera_weights"], {at: f"model.diffusion_model.{stored_place(at)}{layer}" for at in widths}
    )
    backward = drawn(BackwardMotion(widths))
    layer += "attn1."
    _write(backward, paths["between_weights"], {at: f"backward_motion.{stored_place(at)}{layer}" for at in widths})
    return {name: str(path) for name, path in paths.items()}


def drawn(network: nn.Module) -> nn.Module:
    """Return a network with random weights of a size at which every layer counts."""
    for parameter in network.requires_grad_(False).parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
    return network


def _write(network: nn.Module, path: Path, names: dict) -> None:
    blocks = {block_name(at): stored for at, stored in names.items()}
    tensors = {}
    for key, tensor in network.state_dict().items():
        _, block, rest = key.split(".", 2)
        tensors[blocks[block] + rest] = tensor.half()
    save_file(tensors, path)
