"""What users may switch on: compiled blocks, other products of matrices."""

from collections.abc import Callable

import torch
from torch import nn

from ..networks.attention import use_product
from ..networks.kernels import Product, fp8_product, fp16_sum_product
from ..networks.transformer import VideoTransformer
from ..networks.unet import UNet, VideoResidualBlock


def compile_blocks(unet: UNet, **options) -> int:
    """Compile every residual block and transformer of a UNet by itself; returns how many.

    Regional compilation: blocks of the same shape share a compiled form, so that the first step takes minutes less
    than with the whole network. Results differ by rounding. options: of torch.compile.
    """
    blocks: list[nn.Module] = [m for m in unet.modules() if isinstance(m, (VideoResidualBlock, VideoTransformer))]
    _allow_forms(2 * len(blocks))
    for block in blocks:
        block.compile(**{"dynamic": False, **options})
    return len(blocks)


def _allow_forms(count: int) -> None:
    """Let torch keep so many compiled forms of a function; beyond 8 it would leave blocks uncompiled."""
    import torch._dynamo.config as settings  # with the compiler, which is slow to import

    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"  # before torch 2.6
    setattr(settings, name, max(getattr(settings, name), count))


def accumulate_in_half() -> None:
    """Let float16 matrix products on CUDA sum in float16: twice the rate on GeForce cards, with coarser sums."""
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        raise ValueError(f"torch {torch.__version__} cannot sum in float16; use torch 2.7 or newer")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True


PRODUCTS: dict[str, Callable[[torch.device], Product | None]] = {
    "exact": lambda device: None,
    "fp8": fp8_product,
    "fp16 sums": lambda device: fp16_sum_product(),
}
"""Ways to multiply by the large matrices of the transformers, and how each is had for a device."""


def multiply_by(unet: UNet, way: str, device: torch.device | str) -> None:
    """Let the transformers of a UNet that computes on `device` multiply in a way of PRODUCTS.

    ValueError for an unknown way, and where the device or this torch cannot.
    """
    if way not in PRODUCTS:
        raise ValueError(f"products {way!r} are unknown; use one of {', '.join(PRODUCTS)}")
    use_product(unet, PRODUCTS[way](torch.device(device)))
