"""LoRA adapters on linear layers: two low-rank matrices beside each frozen weight (Hu et al. 2021, arXiv 2106.09685).

Adapters are plain tensors outside the network, {module path: (down [r, in], up [out, r], alpha)}. An adapted layer
computes W x + (alpha / r) up down x. The paths are those of the UNet's modules: single-file names without the prefix.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AdapterWeights = dict[str, tuple[Tensor, Tensor, float]]

TEMPORAL = re.compile(r"(^|\.)(time_stack|time_mixer|time_pos_embed)(\.|$)")
# attn2.to_q and attn2.to_k are left out: with one context token they have no effect (spec section 3.5).
ATTENTION = re.compile(r"\.(attn1\.to_[qkv]|attn2\.to_v|attn[12]\.to_out\.0)$")
FEED_FORWARD = re.compile(r"\.ff(_in)?\.net\.(0\.proj|2)$")


def weight_names(unet: nn.Module, targets: str) -> list[str]:
    """Return the names of the parameters that full training of `targets` changes, in the order of the network."""
    names = [name for name, _ in unet.named_parameters()]
    if targets in ("temporal", "spatial"):
        names = [name for name in names if bool(TEMPORAL.search(name)) == (targets == "temporal")]
    return names


def adapter_paths(unet: nn.Module, targets: str) -> list[str]:
    """Return the paths of the linear layers that get adapters.

    targets: the attention layers of the "temporal" blocks, which mix frames, of the "spatial" blocks, which see single
    frames, or of "both"; "all" adds the feed-forward layers of both.
    """
    paths = []
    for path, _ in unet.named_modules():
        wanted = ATTENTION.search(path) or (targets == "all" and FEED_FORWARD.search(path))
        kind = "temporal" if ".time_stack." in path else "spatial"
        if wanted and targets in (kind, "both", "all"):
            paths.append(path)
    return paths


class AdaptedLinear(nn.Module):
    """A linear layer with an adapter. It replaces the layer in the network and does not change the layer itself."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.scale = scale
        self.strength = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted output [..., out] for x [..., in]. Adapters are float32 and compute in the type of x."""
        thin = F.linear(x, self.down.to(x.dtype)) * (self.scale * self.strength)  # [..., r]
        return self.base(x) + F.linear(thin, self.up.to(x.dtype))

    @property
    def weight(self) -> Tensor:
        """The effective weight, for code that reads weights instead of calling the layer."""
        return self.base.weight + (self.scale * self.strength * self.up @ self.down).to(self.base.weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the layer."""
        return self.base.bias


def new_adapters(unet: nn.Module, paths: Sequence[str], rank: int, alpha: float, seed: int) -> AdapterWeights:
    """Return adapters without effect: `up` is zero, `down` is uniform within 1 / sqrt(in), drawn from the seed.

    Raises ValueError where the rank exceeds the smaller side of a layer.
    """
    weights = {}
    generator = torch.Generator().manual_seed(seed)
    for path in paths:
        out_features, in_features = unet.get_submodule(path).weight.shape
        if rank > min(out_features, in_features):
            raise ValueError(
                f"rank must be at most {min(out_features, in_features)} for layer {path} (got {rank}); lower it"
            )
        bound = 1 / math.sqrt(in_features)
        down = (2 * torch.rand(rank, in_features, generator=generator) - 1) * bound
        weights[path] = (down, torch.zeros(out_features, rank), float(alpha))
    return weights


def set_strength(unet: nn.Module, strength: float) -> None:
    """Set the strength of all adapters in a UNet; 1 is the trained one."""
    for layer in unet.modules():
        if isinstance(layer, AdaptedLinear):
            layer.strength = strength


class Adapters:
    """Adapters in place on a UNet until `remove` is called, which restores the UNet bit for bit.

    Raises ValueError for adapters that do not fit the UNet.
    """

    def __init__(self, unet: nn.Module, weights: Mapping[str, tuple[Tensor, Tensor, float]]) -> None:
        self.layers: dict[str, AdaptedLinear] = {}
        self.alphas = {path: float(alpha) for path, (_, _, alpha) in weights.items()}
        self._unet = unet
        for path, (down, up, alpha) in weights.items():
            base = _layer(unet, path, down, up)
            place = {"device": base.weight.device, "dtype": torch.float32, "copy": True}
            self.layers[path] = AdaptedLinear(base, down.to(**place), up.to(**place), float(alpha) / down.shape[0])
        for path, layer in self.layers.items():
            _put(unet, path, layer)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable tensors, named "path.down" and "path.up"."""
        return {f"{p}.{side}": getattr(layer, side) for p, layer in self.layers.items() for side in ("down", "up")}

    def remove(self) -> None:
        """Put the original layers back."""
        for path, layer in self.layers.items():
            _put(self._unet, path, layer.base)


def pair_up(tensors: Mapping[str, Tensor], alphas: Mapping[str, float]) -> AdapterWeights:
    """Turn {"path.down": .., "path.up": ..} into {path: (down, up, alpha)}."""
    return {path: (tensors[f"{path}.down"], tensors[f"{path}.up"], alpha) for path, alpha in alphas.items()}


@contextmanager
def adapted(unet: nn.Module, weights: Mapping[str, tuple[Tensor, Tensor, float]]) -> Iterator[nn.Module]:
    """Yield the UNet with adapters in place, for as long as the block lasts."""
    adapters = Adapters(unet, weights)
    try:
        yield unet
    finally:
        adapters.remove()


def _layer(unet: nn.Module, path: str, down: Tensor, up: Tensor) -> nn.Module:
    try:
        base = unet.get_submodule(path)
        shape = tuple(base.weight.shape)
    except AttributeError as error:
        raise ValueError(
            f"the adapters are for a layer {path}, which this UNet does not have; use the model they were trained on"
        ) from error
    if isinstance(base, AdaptedLinear):
        raise ValueError(f"layer {path} already has an adapter; remove it first")
    if (up.shape[0], down.shape[1]) != shape or down.shape[0] != up.shape[1]:
        raise ValueError(
            f"the adapter of {path} is {list(up.shape)} x {list(down.shape)}, but the layer is {list(shape)}; use the "
            "model it was trained on"
        )
    return base


def _put(unet: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(unet.get_submodule(parent), name, layer)
