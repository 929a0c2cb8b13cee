"""The error test by which `auto` chooses half precision on devices whose kernels differ from CUDA's: MPS and XPU.

A UNet of few layers with fixed random weights, and heads as wide as SVD's, runs in float16 and in float32 on the
device. So every kind of layer is compared before gigabytes are loaded in a precision that breaks there.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..networks.config import UNetConfig
from ..networks.unet import UNet

LIMIT = 0.01
"""Relative error up to which float16 is used, as `svd-reel doctor` judges a stage. The rounding of one number is
0.0005; all layers together give 0.003 on a CPU."""
TRIAL = UNetConfig(model_channels=64, channel_mult=(1,), num_res_blocks=1, attention_levels=(0,))
FRAMES, SIDE = 4, 8
SIGMAS = (7.0, 0.1)
SHARP = 2.0  # on query and key weights: attention of trained networks is sharper than that of random ones


@dataclass(frozen=True)
class HalfCheck:
    """The relative error of float16 against float32 on a device; infinity where it gave numbers that are not finite."""

    device: torch.device
    error: float

    @property
    def allowed(self) -> bool:
        """Whether float16 is close enough to be used without being asked for."""
        return self.error <= LIMIT

    def text(self) -> str:
        """Return what was measured and follows, as one sentence."""
        found = f"float16 differs from float32 by {self.error:.2%} on {self.device} (at most {LIMIT:.0%} is allowed)"
        if not math.isfinite(self.error):
            found = f"float16 gives numbers that are not finite on {self.device}"
        return f"{found}, so auto loads weights in {'float16' if self.allowed else 'float32'}"


@lru_cache(maxsize=8)
def check_half(device: torch.device) -> HalfCheck:
    """Return how far float16 is from float32 on a device, by a small evaluation; measured once in a process."""
    return HalfCheck(device, measured_error(device))


@torch.no_grad()
def measured_error(device: torch.device) -> float:
    """Return the largest relative L2 error of the trial UNet in float16 on a device, over the noise levels tried."""
    generator = torch.Generator().manual_seed(0)
    network = _drawn(UNet(TRIAL, device="meta").to_empty(device="cpu"), generator).to(device)
    shape = (FRAMES, TRIAL.in_channels, SIDE, SIDE)
    inputs = [
        torch.randn(shape, generator=generator),
        torch.randn(1, 1, TRIAL.context_channels, generator=generator).expand(FRAMES, -1, -1),
        torch.randn(1, TRIAL.vector_channels, generator=generator).expand(FRAMES, -1),
    ]
    exact = [_output(network, inputs, sigma, device) for sigma in SIGMAS]
    network.half()
    errors = [
        float((_output(network, inputs, sigma, device) - expected).norm() / expected.norm())
        for sigma, expected in zip(SIGMAS, exact, strict=True)
    ]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def _output(network: UNet, inputs: list[Tensor], sigma: float, device: torch.device) -> Tensor:
    """Return the output for a noise level in float32 on the CPU."""
    dtype = network.out["2"].weight.dtype
    x, token, vector = (tensor.to(device=device, dtype=dtype) for tensor in inputs)
    c_noise = torch.full((FRAMES,), 0.25 * math.log(sigma), device=device)
    return network(x, c_noise, token, vector, FRAMES).float().cpu()


def _drawn(network: UNet, generator: torch.Generator) -> UNet:
    """Return the network with fixed random weights, under which numbers keep their size from layer to layer."""
    for name, parameter in network.requires_grad_(False).named_parameters():
        if parameter.ndim > 1:
            sharp = SHARP if name.endswith(("to_q.weight", "to_k.weight")) else 1.0
            nn.init.normal_(parameter, std=sharp * parameter[0].numel() ** -0.5, generator=generator)
        elif name.endswith("mix_factor"):
            nn.init.zeros_(parameter)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            nn.init.ones_(parameter)
    return network
