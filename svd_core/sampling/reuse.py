"""Feature reuse across steps (DeepCache, Ma et al. 2024): only some sigmas run the whole network.

Approximate and off by default. The model is a `denoise(x, sigma, condition, features=...)` that fills and reads
DeepFeatures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..condition import DeepFeatures
from .controls import Control, Evaluate, Inputs, Run
from .limits import DEPTH, check_reuse


@dataclass(frozen=True)
class ReuseFeatures(Control):
    """Run the whole network at every `interval`-th sigma, and only its `depth` outermost pairs of blocks in between.

    The inner features are those of the last whole pass with the same condition. Conditional and unconditional passes
    have their own, and frames keep theirs where windows or a loop move over the clip. Outside sigma_low..sigma_high
    (not scaled to the size of the clip) all passes are whole. An `interval` of 1 is off. A sigma that is visited
    several times, by Heun or by controls that repeat steps, is decided once. A condition that changes from step to
    step, as in rolling windows, finds nothing cached and runs whole.
    """

    interval: int = 1
    depth: int = DEPTH
    sigma_low: float = 0.0
    sigma_high: float = math.inf

    outermost = True  # the other controls reorder the cached features along with the frames

    def __post_init__(self) -> None:
        check_reuse(self.interval, self.depth)
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise ValueError(
                f"the sigmas of feature reuse must rise from 0 or above (got {self.sigma_low:g} to "
                f"{self.sigma_high:g}); swap the two"
            )

    @property
    def active(self) -> bool:
        """Whether anything is reused."""
        return self.interval > 1

    def whole_share(self, sigmas: Sequence[float] | Tensor) -> float:
        """Return the share of whole passes among the evaluations along `sigmas`, whose last value is not evaluated."""
        store = FeatureStore(self)
        levels = [float(sigma) for sigma in sigmas][:-1]
        return sum(store.is_whole(sigma) for sigma in levels) / len(levels)

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Pass the cached features to every evaluation."""
        store = FeatureStore(self, len(run.noise))

        def reusing(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            store.is_whole(sigma)
            features = Features(store, tuple(range(len(x)))) if store.inside(sigma) else None
            return evaluate(x, sigma, inputs._replace(features=features))

        return reusing


class _Entry(NamedTuple):
    """Features [T, ...] of `frames`, from the pass of a role (conditional or not, backward or not)."""

    role: tuple[bool, bool]
    condition: Any
    frames: tuple[int, ...]
    cached: Tensor


class FeatureStore:
    """The cached features of one run over a clip of `clip_frames`, and the sigma they were made at."""

    def __init__(self, settings: ReuseFeatures, clip_frames: int = 0) -> None:
        self.settings = settings
        self.clip_frames = clip_frames
        self._sigma: float | None = None
        self._whole = True
        self._left = 0  # sigmas until the next whole pass
        self._entries: list[_Entry] = []

    def inside(self, sigma: float) -> bool:
        """Return whether features may be reused at `sigma`."""
        return self.settings.sigma_low <= sigma <= self.settings.sigma_high

    def is_whole(self, sigma: float) -> bool:
        """Decide, once per sigma, whether passes are whole there; if so, drop older features."""
        if sigma == self._sigma:
            return self._whole
        self._sigma = sigma
        if not self.inside(sigma):
            self._left = 0
        self._whole = self._left == 0
        if self._whole:
            self._entries.clear()
        if self.inside(sigma):
            self._left = self.settings.interval - 1 if self._whole else self._left - 1
        return self._whole

    def cached_rows(self, frames: int) -> int:
        """Return how many frames the cache holds per role, for passes over `frames` frames at a time."""
        # Windows overlap, usually by a third, and each caches its own frames.
        return max(frames, self.clip_frames if frames >= self.clip_frames else self.clip_frames * 3 // 2)

    def find(self, role: tuple[bool, bool], condition: Any, frames: tuple[int, ...]) -> Tensor | None:
        """Return the features of these frames [T, ...], or None where a whole pass is due or a frame has none."""
        if self._whole:
            return None
        known = [e for e in self._entries if e.role == role and _same(e.condition, condition)]
        for entry in known:
            if entry.frames == frames:
                return entry.cached
        if not set(frames) <= {frame for entry in known for frame in entry.frames}:
            return None
        # Of several windows take the one where the frame has most neighbours on both sides.
        rows = []
        for frame in frames:
            there = [(e, e.frames.index(frame)) for e in known if frame in e.frames]
            entry, row = max(there, key=lambda found: min(found[1], len(found[0].frames) - 1 - found[1]))
            rows.append(entry.cached[row])
        return torch.stack(rows)

    def keep(self, role: tuple[bool, bool], condition: Any, frames: tuple[int, ...], cached: Tensor) -> None:
        """Cache the features of a whole pass."""
        self._entries = [
            e for e in self._entries if not (e.role == role and e.frames == frames and _same(e.condition, condition))
        ]
        self._entries.append(_Entry(role, condition, frames, cached))


@dataclass(frozen=True)
class Features:
    """The cached features an evaluation may use: of `frames`, numbers in the clip, in clip order or `backward`."""

    store: FeatureStore = field(repr=False)
    frames: tuple[int, ...]
    backward: bool = False

    def of_frames(self, index: Tensor) -> "Features":
        """Return the features of the frames at `index`."""
        return replace(self, frames=tuple(self.frames[i] for i in index.tolist()))

    def turned(self) -> "Features":
        """Return the features of the clip with its frames in reverse order, cached separately."""
        return replace(self, frames=self.frames[::-1], backward=not self.backward)

    def through(self, denoise: Callable[..., Tensor], conditional: Any) -> Callable[[Tensor, float, Any], Tensor]:
        """Return `denoise(x, sigma, condition)` with caching; `conditional` is the condition of the guided pass."""

        def reusing(x: Tensor, sigma: float, condition: Any) -> Tensor:
            role = (condition is conditional, self.backward)
            cached = self.store.find(role, condition, self.frames)
            passed = DeepFeatures(self.store.settings.depth, cached, self.store.cached_rows(len(self.frames)))
            estimate = denoise(x, sigma, condition, features=passed)
            if cached is None and passed.cached is not None:
                self.store.keep(role, condition, self.frames, passed.cached)
            return estimate

        return reusing


def _same(one: Any, other: Any) -> bool:
    """Return whether two conditions have equal token, latent and adapters; motion numbers may change between steps."""
    if one is other:
        return True
    if type(one) is not type(other) or not is_dataclass(one):
        return False
    # The rows of adapters follow the frames; an adapter whose range of noise levels is over is no longer there.
    acting, before = (
        [getattr(adapter, "network", type(adapter)) for adapter in getattr(part, "adapters", ())]
        for part in (one, other)
    )
    if len(acting) != len(before) or any(a is not b for a, b in zip(acting, before, strict=True)):
        return False
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name in ("token", "latent")]
    return bool(pairs) and all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)
