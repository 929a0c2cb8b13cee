"""Optional speed-ups that change results by rounding: compiled blocks, other matrix products."""

from collections.abc import Callable

import torch
from torch import nn

from ..networks.attention import use_product
from ..networks.kernels import Product, fp8_product, fp16_sum_product
from ..networks.transformer import VideoTransformer
from ..networks.unet import UNet, VideoResidualBlock


def compile_blocks(unet: UNet, **options) -> int:
    """Compile every residual block and transformer of a UNet separately; return how many.

    Blocks of the same shape share a compiled form (regional compilation), so the first step takes minutes less than
    with the whole network. Results differ by rounding. `options` are those of torch.compile.
    """
    blocks: list[nn.Module] = [m for m in unet.modules() if isinstance(m, (VideoResidualBlock, VideoTransformer))]
    _allow_forms(2 * len(blocks))
    for block in blocks:
        block.compile(**{"dynamic": False, **options})
    return len(blocks)


def _allow_forms(count: int) -> None:
    """Let torch keep `count` compiled forms of a function; beyond its default of 8 it leaves blocks uncompiled."""
    import torch._dynamo.config as settings  # here, because the compiler is slow to import

    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"  # before torch 2.6
    setattr(settings, name, max(getattr(settings, name), count))


def accumulate_in_half() -> None:
    """Sum float16 matrix products on CUDA in float16: twice the rate on GeForce cards, with coarser sums."""
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        raise ValueError(f"summing in float16 needs torch 2.7 or newer (got {torch.__version__}); leave the option out")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True


PRODUCTS: dict[str, Callable[[torch.device], Product | None]] = {
    "exact": lambda device: None,
    "fp8": fp8_product,
    "fp16 sums": lambda device: fp16_sum_product(),
}
"""Kinds of products with the large matrices of the transformers, and how to make each for a device."""


def multiply_by(unet: UNet, product: str, device: torch.device | str) -> None:
    """Set the matrix products of the transformers of a UNet that computes on `device`, a key of PRODUCTS.

    ValueError for an unknown key, and where the device or this torch does not support it.
    """
    if product not in PRODUCTS:
        raise ValueError(f"products {product!r} are unknown; use one of {', '.join(PRODUCTS)}")
    use_product(unet, PRODUCTS[product](torch.device(device)))
