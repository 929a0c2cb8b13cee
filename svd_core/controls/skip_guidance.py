"""Spatiotemporal skip guidance: push the estimate away from that of the same network with attention left out.

A weak twin of the model costs no training: in one or two blocks self-attention is replaced by the identity, or the
transformer is skipped. Its estimate is blurred and shaky where attention matters, so pushing away from it sharpens
frames and firms their motion at low guidance (STG, Hyung et al., CVPR 2025, arXiv 2411.18664).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..condition import Adapter, PassInputs
from ..networks.hooks import AttentionFunction, BlockHooks, Hooks, Place
from ..networks.transformer import VideoTransformer
from ..sampling.controls import Control, Evaluate, Inputs, Run
from ..sampling.guidance import Guidance
from .strength import check_share

KINDS = ("attention", "residual")
"""What the weak twin lacks: self-attention over pixels and frames, or whole transformers."""
BLOCKS = (4, 5)  # output blocks at half and quarter size; the middle block alone is too weak, the last ones flicker
SIGMA_LOW, SIGMA_HIGH = 0.5, 40.0  # for 1024x576; below is fine grain, above there is no picture yet
FIRST_SHARE = 0.5
FRAME = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class SkipGuidance(Control):
    """Add scale * (D_c - D_p) to the estimate, where D_p is that of the weak twin under the same condition.

    One more pass in each step between `sigma_low` and `sigma_high` (for 1024x576, scaled to the clip), about a third of
    the steps.

    scale: of the last frame; 0 is off, 1 usual, above 2 edges ring. It rises evenly from `first` * scale in the first
    frame, because late frames lose most.
    kind: one of KINDS. blocks: output blocks of the UNet that are weakened.
    rescale: share by which the deviation of each frame is brought back to that of the conditional estimate, 0 to 1.
    """

    scale: float = 1.0
    kind: str = "attention"
    blocks: tuple[int, ...] = BLOCKS
    sigma_low: float = SIGMA_LOW
    sigma_high: float = SIGMA_HIGH
    rescale: float = 0.7
    first: float = FIRST_SHARE

    # Inside the corrections of guidance too: those split a guided estimate into its two passes.
    innermost = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"skip guidance must be 0 or above (got {self.scale:g}); use 0.5 to 1.5, or 0 for none")
        if self.kind not in KINDS:
            raise ValueError(f"the kind of skip guidance {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if not self.blocks or any(int(block) != block or block < 0 for block in self.blocks):
            raise ValueError(f"skip guidance needs output blocks, 0 or above (got {list(self.blocks)}); use 4 and 5")
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise ValueError(
                f"the noise levels of skip guidance must rise from 0 or above (got {self.sigma_low:g} to "
                f"{self.sigma_high:g}); use {SIGMA_LOW:g} and {SIGMA_HIGH:g}"
            )
        check_share("the rescaling of skip guidance", self.rescale, "use 0.7")
        check_share("the share of skip guidance in the first frame", self.first, "use 0.5")

    @property
    def active(self) -> bool:
        """Whether there is any scale."""
        return self.scale > 0

    def wrap(self, run: Run, evaluate: Evaluate) -> Evaluate:
        """Evaluate the weak twin beside the model."""
        low, high = self.sigma_low * run.scale, self.sigma_high * run.scale
        weak = WeakTwin(self.kind, frozenset(self.blocks))

        def sharpened(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
            scale = inputs.guidance.over_frames(len(x))
            guided = inputs.guidance.sigma_low <= sigma <= inputs.guidance.sigma_high
            if not low <= sigma <= high or (guided and bool((scale == 0).all())):
                return evaluate(x, sigma, inputs)
            given = evaluate(x, sigma, _alone(inputs, 1.0))
            result = given
            if guided and not bool((scale == 1).all()):
                without = evaluate(x, sigma, _alone(inputs, 0.0))
                result = without + scale.to(x).reshape(-1, 1, 1, 1) * (given - without)
            twin = replace(inputs.condition, adapters=(*inputs.condition.adapters, weak))
            lacking = evaluate(x, sigma, _alone(inputs._replace(condition=twin, features=None), 1.0))
            result = result + self._scales(x) * (given - lacking)
            return self._rescaled(result, given)

        return sharpened

    def _scales(self, x: Tensor) -> Tensor:
        """Return the scale of each frame: [T, 1, 1, 1]."""
        return torch.linspace(self.first * self.scale, self.scale, len(x)).to(x).reshape(-1, 1, 1, 1)

    def _rescaled(self, result: Tensor, given: Tensor) -> Tensor:
        now, usual = (part.std(FRAME, keepdim=True) for part in (result, given))
        factor = torch.where(now > 0, usual / now.clamp(min=1e-12), torch.ones_like(now))
        return result * (1 + self.rescale * (factor - 1))


def _alone(inputs: Inputs, scale: float) -> Inputs:
    """Return inputs of one pass: the conditional one (1) or the unconditional one (0)."""
    return inputs._replace(guidance=Guidance(torch.tensor([scale])))


@dataclass(frozen=True, eq=False)
class WeakTwin(Adapter):
    """Leaves attention or whole transformers out of some output blocks."""

    kind: str
    blocks: frozenset[int]

    rows = 1

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "WeakTwin":
        """Return this adapter: it holds nothing per frame."""
        return self

    def hooks(self, inputs: PassInputs) -> Any:
        """Return the hooks of one pass."""
        return _WithoutAttention(self.blocks) if self.kind == "attention" else _WithoutTransformers(self.blocks)


class _Places(Hooks):
    """Knows which block runs."""

    uses_embedding = False

    def __init__(self, blocks: frozenset[int]) -> None:
        self.blocks = blocks
        self.weak = False

    def enter(self, place: Place) -> None:
        self.weak = place[0] == "output" and place[1] in self.blocks


class _WithoutAttention(_Places):
    """Replaces self-attention by the identity: every pixel and frame keeps its own value."""

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        return _Identity() if self.weak else None


class _Identity(BlockHooks):
    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        return v if which == 1 and v.shape == q.shape else attention(q, k, v, heads)


class _WithoutTransformers(_Places):
    """Skips whole transformers."""

    wraps_layers = True

    def layer(self, layer: nn.Module, h: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        return h if self.weak and isinstance(layer, VideoTransformer) else run(h)
