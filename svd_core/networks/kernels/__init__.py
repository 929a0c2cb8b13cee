"""Triton kernels for what PyTorch does in several passes over memory: GroupNorm with SiLU, GEGLU, add with LayerNorm.

Each function here answers None where its kernel does not run (no CUDA device, no Triton, gradients wanted, layers that
do more than their class says); the caller then takes the plain path, which gives the same numbers up to rounding and
stands beside every call. Knows tensors and layers, no networks.
"""

from .choice import MODES, describe, use_kernels
from .norms import add_norm, frame_moments, gated, group_norm, normalise_silu
from .products import Product, in_eight_bits, multiply, summed_in_half
from .weights import also_takes, weights_of

__all__ = [
    "MODES",
    "Product",
    "add_norm",
    "also_takes",
    "describe",
    "frame_moments",
    "gated",
    "group_norm",
    "in_eight_bits",
    "multiply",
    "normalise_silu",
    "summed_in_half",
    "use_kernels",
    "weights_of",
]
