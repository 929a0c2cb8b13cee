"""Which layers of the UNet a run trains."""

import re

from torch import nn

TEMPORAL = re.compile(r"(^|\.)(time_stack|time_mixer|time_pos_embed)(\.|$)")
# attn2.to_q and attn2.to_k are left out: with one context token they have no effect (spec section 3.5).
ATTENTION = re.compile(r"\.(attn1\.to_[qkv]|attn2\.to_v|attn[12]\.to_out\.0)$")
FEED_FORWARD = re.compile(r"\.ff(_in)?\.net\.(0\.proj|2)$")


def weight_names(unet: nn.Module, targets: str) -> list[str]:
    """Names of the parameters that full training of `targets` changes, in the order of the network."""
    names = [name for name, _ in unet.named_parameters()]
    if targets in ("temporal", "spatial"):
        names = [name for name in names if bool(TEMPORAL.search(name)) == (targets == "temporal")]
    return names


def adapter_paths(unet: nn.Module, targets: str) -> list[str]:
    """Paths of the linear layers that get adapters: attention of the blocks named, "all" with feed-forward of both.

    "temporal" are the blocks that mix frames, "spatial" those that look at one frame.
    """
    paths = []
    for path, _ in unet.named_modules():
        wanted = ATTENTION.search(path) or (targets == "all" and FEED_FORWARD.search(path))
        kind = "temporal" if ".time_stack." in path else "spatial"
        if wanted and targets in (kind, "both", "all"):
            paths.append(path)
    return paths
