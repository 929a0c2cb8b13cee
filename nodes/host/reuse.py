"""Feature reuse (DeepCache) in the host's own sampling: KSampler and other samplers of an exported model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...svd_core.condition import DeepFeatures
from ...svd_core.sampling.reuse import FeatureStore, ReuseFeatures
from . import comfy as host
from .sampling import in_sampling

KEY = "svd_reel_reuse"
"""Entry of the host's transformer options with the cached features of a run."""


@dataclass(frozen=True)
class Shown:
    """Token and latent of a pass; cached features belong to passes with equal ones."""

    token: Tensor
    latent: Tensor


@dataclass
class HostReuse:
    """The cached features of one sampling run of the host, separate for every combination of conditions in a batch."""

    settings: ReuseFeatures
    store: FeatureStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = FeatureStore(self.settings)

    def run(
        self, forward: Callable[[DeepFeatures | None], Tensor], x: Tensor, context: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """Return forward(features) for the network's input x [N, 8, h, w] and context, with the cached features."""
        sigma = float(options["sigmas"].reshape(-1)[0])
        self.store.is_whole(sigma)
        if not self.store.inside(sigma):
            return forward(None)
        role, shown, rows = tuple(options.get("cond_or_uncond", ())), Shown(context, x[:, 4:]), tuple(range(len(x)))
        passed = DeepFeatures(self.settings.depth, self.store.find(role, shown, rows))
        whole = passed.cached is None
        out = forward(passed)
        if whole:
            self.store.keep(role, shown, rows, passed.cached)
        return out


def reuse_in_sampling(patcher: Any, settings: ReuseFeatures) -> None:
    """Make every sampling run of the host with `patcher` reuse features; each run has a cache of its own."""
    if not host.PRESENT:
        return
    in_sampling(patcher, KEY, lambda: HostReuse(settings))
