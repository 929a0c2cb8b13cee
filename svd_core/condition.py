"""What the denoiser is conditioned on: image token, latent, motion vector and adapters, plus the feature cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


@dataclass
class DeepFeatures:
    """Inner UNet features of one clip, cached in one step and reused in the next (DeepCache).

    depth: number of outer block pairs that run in every pass; a pair is one input block and its output block.
    cached: features of the inner blocks, one row per frame. A pass that finds None runs all blocks and fills it; a pass
    that finds a tensor uses it instead of running the inner blocks.
    rows: frames whose features are cached at once per condition, for planning memory.
    """

    depth: int
    cached: Tensor | None = None
    rows: int = 0


class Region(NamedTuple):
    """Other motion numbers for a part of the picture: a vector [1|T, V], and its share [1|T, 1, h, w] in 0..1."""

    vector: Tensor
    share: Tensor


class PassInputs(NamedTuple):
    """The UNet's inputs in one pass over one clip of T frames, as its adapters see them.

    x: [T, 8, h, w], noisy latents times c_in, then the conditioning latent, in the dtype that the UNet computes in.
    c_noise: [T], ln(sigma) / 4. context: [T, n, D]. vector: [T, V].
    depth: the outermost pairs of blocks that run, where the rest comes from cached features; None for all blocks.
    """

    x: Tensor
    c_noise: Tensor
    context: Tensor
    vector: Tensor
    depth: int | None = None


class Adapter:
    """What works on the UNet's activations while it denoises a clip: a ControlNet, a pose net, a camera adapter.

    An adapter is a part of the `Condition`: it holds what it needs per frame (control pictures, poses, strengths) and
    the network that reads them. Whatever selects, reverses or moves the frames of a condition (windows, loops,
    in-betweens, devices) treats the adapter's rows alike, so an adapter never counts frames itself. To write one,
    subclass it as a frozen dataclass (eq=False) and override:

    - `rows` and `with_parts`, as in `Condition`: 1 row, or one per frame.
    - `hooks`: called before every pass of the UNet over one clip, with that pass's inputs. It runs the adapter's own
      network and returns the `networks.hooks.Hooks` that change the UNet's activations; rows there are the T frames of
      this clip only, also where several clips share a pass.
    - `begin`, where something stays the same from step to step, such as features of the control pictures: it returns
      the copy for one run, which may hold a `StepCache` for it.
    - `unconditional`: the adapter of the unconditional pass of CFG: itself (default), or None for none.

    `controls.adapters.AdapterControl` attaches an adapter to a clip on the SVD_CONTROL chain, within a range of noise
    levels; outside it, and at strength 0, the condition is unchanged and the clip bit-equal to one without adapter.
    """

    network: nn.Module | None
    """The adapter's network, if it has one; `VideoModel.prepare_unet` places it beside the UNet."""

    @property
    def rows(self) -> int:
        """The number of rows: 1, or the number of frames."""
        raise NotImplementedError

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "Adapter":
        """Return this adapter with `change` applied to every tensor that has rows."""
        raise NotImplementedError

    def unconditional(self) -> "Adapter | None":
        """Return the adapter of the unconditional pass, None for none."""
        return self

    def begin(self, device: torch.device) -> "Adapter":
        """Return this adapter for one sampling run on `device`; what it caches during the run may hang on the copy."""
        return self.with_parts(lambda part: part.to(device))

    def hooks(self, inputs: PassInputs) -> Any:
        """Return the hooks (`networks.hooks.Hooks`) of one pass over one clip."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Condition:
    """Conditioning of one clip. Each part has one row for all frames, or one row per frame.

    token: [1|T, n, D], context tokens of the image encoder; SVD has n = 1.
    latent: [1|T, 4, h, w], unscaled latent of the (noise-augmented) picture, concatenated to the noisy channels.
    vector: [1|T, V], embedded numbers such as frame rate and motion bucket.
    region: another vector for a part of the picture, or None.
    adapters: what works on the UNet from outside, in this order.

    Raises ValueError if a part has the wrong shape, or if the parts disagree about the number of frames.
    """

    token: Tensor
    latent: Tensor
    vector: Tensor
    region: Region | None = None
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        lengths = set() if self.region is None else {len(part) for part in self.region}
        lengths |= {adapter.rows for adapter in self.adapters}
        for name, axes in (("token", "[T, n, D]"), ("latent", "[T, 4, h, w]"), ("vector", "[T, V]")):
            part = getattr(self, name)
            if part.dim() != axes.count(",") + 1 or not len(part):
                raise ValueError(
                    f"the condition's {name} must have shape {axes} with T = 1 or the number of frames (got "
                    f"{list(part.shape)})"
                )
            lengths.add(len(part))
        if len(lengths - {1}) > 1:
            raise ValueError(
                "all parts of a condition must have 1 row, or one row per frame of the same clip (got "
                f"{', '.join(map(str, sorted(lengths)))} rows)"
            )

    @property
    def frames(self) -> int:
        """Return the number of frames of this condition, or 1 if it fits clips of any length."""
        parts = (self.token, self.latent, self.vector, *(self.region or ()))
        return max(*(len(part) for part in parts), *(adapter.rows for adapter in self.adapters))

    def with_parts(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """Return this condition with `change` applied to every part, for example to select rows."""
        region = None if self.region is None else Region(*(change(part) for part in self.region))
        adapters = tuple(adapter.with_parts(change) for adapter in self.adapters)
        return Condition(change(self.token), change(self.latent), change(self.vector), region, adapters)

    def unconditional(self) -> "Condition":
        """Return the unconditional counterpart for CFG: token and latent zero, motion unchanged (spec section 7).

        The latent itself is zero; a black picture encodes to something else. Adapters decide for themselves.
        """
        return self._unconditional

    @cached_property
    def _unconditional(self) -> "Condition":
        # Created once, so that what networks cache for its tensors is found again in the next step.
        adapters = tuple(made for adapter in self.adapters if (made := adapter.unconditional()) is not None)
        token, latent = torch.zeros_like(self.token), torch.zeros_like(self.latent)
        return Condition(token, latent, self.vector, self.region, adapters)

    def turned(self) -> "Condition":
        """Return this condition for the clip in reverse: rows per frame are reversed."""
        return self.with_parts(lambda part: part.flip(0))

    def to(self, device: torch.device | str) -> "Condition":
        """Return this condition on `device`."""
        return self.with_parts(lambda part: part.to(device))

    def over_frames(self, frames: int) -> "Condition":
        """Return this condition with one row per frame in every part; single rows are expanded without a copy.

        Raises ValueError if the condition is for another number of frames.
        """
        if self.frames not in (1, frames):
            raise ValueError(
                f"the condition has {self.frames} frames, the clip {frames}; pass one row, or one row per frame of the "
                "clip"
            )
        return self.with_parts(lambda part: part.expand(frames, *part.shape[1:]))
