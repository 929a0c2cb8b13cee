"""Round to fp8 on any device, to measure its effect on a clip without a GPU that supports it."""

import torch
import torch.nn.functional as F

import svd_core as svd
from svd_core.networks.attention import use_product
from svd_core.networks.kernels.matmul import quantise_fp8

LARGEST = 448.0  # of float8_e4m3fn


def with_rounded_products(model: svd.SVDModel) -> None:
    """Make the transformers of a UNet multiply like `--products fp8`: both sides are scaled and rounded."""
    use_product(model.unet, _product)


def with_rounded_weights(model: svd.SVDModel) -> None:
    """Round every matrix and convolution kernel of a UNet like a file with fp8 weights."""
    for parameter in model.unet.parameters():
        if parameter.dim() > 1:
            rounded = parameter.data.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
            parameter.data.copy_(rounded.to(parameter.dtype))


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.linear(_rounded(x), _rounded(weight), bias)


def _rounded(matrix: torch.Tensor) -> torch.Tensor:
    values, scales = quantise_fp8(matrix.reshape(-1, matrix.shape[-1]))
    return (values.to(matrix.dtype) * scales.to(matrix.dtype)).reshape(matrix.shape)
