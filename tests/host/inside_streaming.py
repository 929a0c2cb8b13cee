"""Part of inside.py: layers whose weights the host streams (dynamic VRAM), as it does for every layer over 16 KiB.

The host marks such a layer with `_v`. On a CPU its own casting then gives a copy of the weights, which is enough to see
who asks for them and who returns them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def compare_streamed_products(network, use_product, results: dict) -> None:
    """Fill `results["streamed products"]` with counts of products and of returned weights, and the difference."""
    import comfy.ops

    config, rows = network.config, 2
    given = (
        torch.randn(rows, config.in_channels, 8, 8),
        torch.zeros(rows),
        torch.randn(rows, 1, config.context_channels),
        torch.randn(rows, config.vector_channels),
        rows,
    )
    layers = [layer for layer in network.modules() if isinstance(layer, comfy.ops.disable_weight_init.Linear)]
    before = [layer.comfy_cast_weights for layer in layers]
    uncast = getattr(comfy.ops, "uncast_bias_weight", None)  # older hosts do not reuse the memory of weights
    products, returned = [], []

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        products.append(weight)
        return F.linear(x, weight, bias)

    plain = network(*given)
    use_product(network, product)
    try:
        network(*given)
        resident = len(products)
        for layer in layers:
            layer._v, layer.comfy_cast_weights = object(), True
        if uncast is not None:
            comfy.ops.uncast_bias_weight = lambda layer, *cast: returned.append(layer) or uncast(layer, *cast)
        streamed = network(*given)
    finally:
        use_product(network, None)
        if uncast is not None:
            comfy.ops.uncast_bias_weight = uncast
        for layer, casts in zip(layers, before, strict=True):
            layer.comfy_cast_weights = casts
            layer.__dict__.pop("_v", None)
    counts = [resident, len(products) - resident, len(returned) if uncast is not None else None]
    results["streamed products"] = [*counts, float((streamed - plain).abs().max())]
