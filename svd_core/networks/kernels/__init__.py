"""GPU paths beside the plain PyTorch ones: fused Triton kernels, fp8 matrix products, a choice of attention kernels.

The fused kernels replace several passes over memory by one: GroupNorm with SiLU, add with LayerNorm, GEGLU. They are
off unless `use_kernels("auto")` turns them on, because no benchmark on a GPU has shown their gain yet. Each function
returns None where its kernel cannot run (no CUDA device, no Triton, gradients enabled, layers with hooks), and the
caller uses the plain path. Both paths give the same numbers up to rounding.
"""

from .dispatch import MODES, describe, use_kernels
from .fused import add_norm, frame_moments, geglu, group_norm, normalise_silu
from .matmul import Product, fp8_product, fp16_sum_product, multiply
from .weights import register_weight_reader, weights_of

__all__ = [
    "MODES",
    "Product",
    "add_norm",
    "describe",
    "fp16_sum_product",
    "fp8_product",
    "frame_moments",
    "geglu",
    "group_norm",
    "multiply",
    "normalise_silu",
    "register_weight_reader",
    "use_kernels",
    "weights_of",
]
