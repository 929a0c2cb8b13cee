"""What users may switch on: compiled blocks, products summed in half precision."""

import torch
from torch import nn

from ..models.transformer import VideoTransformer
from ..models.unet import UNet, VideoResidualBlock


def compile_blocks(unet: UNet, **options) -> int:
    """Compile every residual block and transformer of a UNet by itself; returns how many.

    Regional compilation: blocks of the same shape share a compiled form, so that the first step takes minutes less
    than with the whole network. Results differ by rounding. options: of torch.compile.
    """
    blocks: list[nn.Module] = [m for m in unet.modules() if isinstance(m, (VideoResidualBlock, VideoTransformer))]
    for block in blocks:
        block.compile(**{"dynamic": False, **options})
    return len(blocks)


def accumulate_in_half() -> None:
    """Let float16 matrix products on CUDA sum in float16: twice the rate on GeForce cards, with coarser sums."""
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        raise ValueError(f"torch {torch.__version__} cannot sum in float16; use torch 2.7 or newer")
    torch.backends.cuda.matmul.allow_fp16_accumulation = True
