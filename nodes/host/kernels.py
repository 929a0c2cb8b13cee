"""What our kernels need of the host's layers: the weights that they would use, and the attention that a user chose."""

from contextlib import contextmanager, nullcontext

import torch

from ...svd_core.networks.kernels import register_weight_reader
from ...svd_core.networks.kernels.attention_backends import register_attention
from . import comfy as host


def layer_weights(layer: torch.nn.Module, kind: type[torch.nn.Module], x: torch.Tensor):
    """Return a context with the weight and bias that one of the host's layers would use for x, patched and cast.

    None if the layer does more than torch's `kind`. Where the host streams weights (dynamic VRAM, offloading), the
    context holds them on the device and lets the host reuse their memory afterwards.
    """
    base = getattr(host.comfy.ops.disable_weight_init, kind.__name__, None) if host.PRESENT else None
    if base is None or not isinstance(layer, base) or layer.weight is None:
        return None
    cls, hooked = type(layer), layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    casting = "forward_comfy_cast_weights"
    if hooked or cls.forward is not base.forward or getattr(cls, casting) is not getattr(base, casting):
        return None
    if layer.comfy_cast_weights or layer.weight_function or layer.bias_function:
        return _cast_weights(layer, x)
    return nullcontext((layer.weight, layer.bias))


@contextmanager
def _cast_weights(layer: torch.nn.Module, x: torch.Tensor):
    """Give the weight and bias that the host casts for x, for as long as the context lasts."""
    if not hasattr(host.comfy.ops, "uncast_bias_weight"):  # older hosts do not reuse their memory
        yield host.comfy.ops.cast_bias_weight(layer, x)
        return
    weight, bias, borrowed = host.comfy.ops.cast_bias_weight(layer, x, offloadable=True)
    try:
        yield weight, bias
    finally:
        host.comfy.ops.uncast_bias_weight(layer, weight, bias, borrowed)


def chosen_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor | None:
    """Return attention [N, S, C] by the function that a start-up flag or a pack chose; None without such a choice."""
    if not host.attention_was_chosen():
        return None
    return host.optimized_attention()(q, k, v, heads, attn_precision=torch.float32)


register_weight_reader(layer_weights)
register_attention(chosen_attention)
