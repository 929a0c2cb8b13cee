"""Reuse of features across steps (Ma et al. 2024, "DeepCache"): most of the network runs at some sigmas only.

Approximate and off by default. Knows no network: the model is a `denoise(x, sigma, condition, features=...)` that fills
and reads DeepFeatures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..condition import DeepFeatures
from .controls import Control, Evaluate, Inputs, Run

DEPTH = 2
"""Pairs of blocks that run at every sigma unless told otherwise: the outermost two."""


@dataclass(frozen=True)
class ReuseFeatures(Control):
    """Run the whole network at every `interval`-th sigma, and in between only its `depth` outermost pairs of blocks.

    The inner features are those of the last whole pass with the same condition; each branch of guidance has its own,
    and frames keep theirs where windows or a loop move over the clip. Outside sigma_low..sigma_high (as they are, for
    every size of clip) all passes are whole. An `interval` of 1 is off. A sigma that is visited several times, by Heun
    or by controls that make steps again, is decided on once. A condition that changes from step to step, as in rolling
    windows, has nothing to take up, and runs whole.
    """

    interval: int = 1
    depth: int = DEPTH
    sigma_low: float = 0.0
    sigma_high: float = math.inf

    outermost = True  # the others move and turn what an evaluation may take up along with its frames

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"features are reused for {self.interval} steps; use 1 for never, 2 or 3")
        if self.depth < 1:
            raise ValueError(f"{self.depth} pairs of blocks stay outside, but at least 1 must; use 1 to 4")
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise ValueError(
                f"features are reused from sigma {self.sigma_low:g} to {self.sigma_high:g}, but the range must start "
                "at 0 or above and not fall; swap the two"
            )

    @property
    def active(self) -> bool:
        """Whether anything is reused."""
        return self.interval > 1

    @property
    def features_depth(self) -> int:
        """See Control."""
        return self.depth if self.active else 0

    def whole_share(self, sigmas: Sequence[float] | Tensor) -> float:
        """Share of the evaluations along `sigmas` (the last of which is none) that are whole passes."""
        store = FeatureStore(self)
        levels = [float(sigma) for sigma in sigmas][:-1]
        return sum(store.is_whole(sigma) for sigma in levels) / len(levels)

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Tell every evaluation what there is to take up."""
        store = FeatureStore(self)

        def reusing(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            store.is_whole(sigma)
            features = Features(store, tuple(range(len(x)))) if store.inside(sigma) else None
            return evaluate(x, sigma, inputs._replace(features=features))

        return reusing


class _Entry(NamedTuple):
    """Features [T, ...] of the frames `frames`, made under a condition by a branch of guidance."""

    role: tuple[bool, bool]
    condition: Any
    frames: tuple[int, ...]
    kept: Tensor


class FeatureStore:
    """What one run keeps, and at which sigma it was made."""

    def __init__(self, settings: ReuseFeatures) -> None:
        self.settings = settings
        self._sigma: float | None = None
        self._whole = True
        self._left = 0  # sigmas until the next whole pass
        self._entries: list[_Entry] = []

    def inside(self, sigma: float) -> bool:
        """Whether anything may be reused at `sigma`."""
        return self.settings.sigma_low <= sigma <= self.settings.sigma_high

    def is_whole(self, sigma: float) -> bool:
        """Decide, once for each sigma, whether passes are whole there; if so, older features are dropped."""
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

    def find(self, role: tuple[bool, bool], condition: Any, frames: tuple[int, ...]) -> Tensor | None:
        """Features of these frames [T, ...], or None where a whole pass is due or one of them has none."""
        if self._whole:
            return None
        known = [e for e in self._entries if e.role == role and _same(e.condition, condition)]
        for entry in known:
            if entry.frames == frames:
                return entry.kept
        if not set(frames) <= {frame for entry in known for frame in entry.frames}:
            return None
        # Of several windows the one in which a frame has most neighbours on both sides.
        rows = []
        for frame in frames:
            there = [(e, e.frames.index(frame)) for e in known if frame in e.frames]
            entry, row = max(there, key=lambda found: min(found[1], len(found[0].frames) - 1 - found[1]))
            rows.append(entry.kept[row])
        return torch.stack(rows)

    def keep(self, role: tuple[bool, bool], condition: Any, frames: tuple[int, ...], kept: Tensor) -> None:
        """Remember what a whole pass left."""
        self._entries = [
            e for e in self._entries if not (e.role == role and e.frames == frames and _same(e.condition, condition))
        ]
        self._entries.append(_Entry(role, condition, frames, kept))


@dataclass(frozen=True)
class Features:
    """What an evaluation may take up: that of `frames`, numbers in the clip, in time or `backward`."""

    store: FeatureStore = field(repr=False)
    frames: tuple[int, ...]
    backward: bool = False

    def of_frames(self, index: Tensor) -> "Features":
        """Return what belongs to the frames at `index` of these."""
        return replace(self, frames=tuple(self.frames[i] for i in index.tolist()))

    def turned(self) -> "Features":
        """Return what belongs to the clip with its frames in reverse, a view of its own."""
        return replace(self, frames=self.frames[::-1], backward=not self.backward)

    def through(self, denoise: Callable[..., Tensor], conditional: Any) -> Callable[[Tensor, float, Any], Tensor]:
        """Return `denoise(x, sigma, condition)` that keeps and takes up; `conditional` is the guided branch."""

        def reusing(x: Tensor, sigma: float, condition: Any) -> Tensor:
            role = (condition is conditional, self.backward)
            passed = DeepFeatures(self.store.settings.depth, self.store.find(role, condition, self.frames))
            whole = passed.cached is None
            estimate = denoise(x, sigma, condition, features=passed)
            if whole and passed.cached is not None:
                self.store.keep(role, condition, self.frames, passed.cached)
            return estimate

        return reusing


def _same(one: Any, other: Any) -> bool:
    """Whether two conditions show the model the same picture; their motion numbers may change from step to step."""
    if one is other:
        return True
    if type(one) is not type(other) or not is_dataclass(one):
        return False
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name in ("token", "latent")]
    return bool(pairs) and all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)
