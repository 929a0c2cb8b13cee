"""In-betweens of two pictures of one scene: how the first moves into the second is measured, and imposed as a signal.

Optical flow in both directions gives every frame in between, warped from both pictures. Where flow finds too little, or
loses an object that goes far, a few layers that move as a whole take its place (`flow.layers`). The sampler starts from
these frames with noise, as for a camera path (`signal.PartialRenoise`), and holds both ends. One pass per step, and
fewer steps. Pictures that have too little in common for that need another mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..flow.between import Side, frame_between, sides_of
from ..flow.layers import Layer, find_layers, frame_of_layers, lost_by_flow, share_of
from ..networks.vae import LATENT_SCALE
from ..pictures.reading import lay_out
from ..sampling.controls import Run
from .signal import PIN_BELOW, PIN_SIGMA, PartialRenoise, Signal

SURE = 0.2  # share of both pictures that must be found again in the other; unrelated photographs reach 0.01
SURE_LAYERS = 0.15  # the same of layers, which try more; two unrelated night skies reach 0.1


@dataclass(frozen=True, eq=False)
class Match:
    """Two pictures [H, W, 3] in 0..1, and the motion between them seen from each; or with `layers`, that of those."""

    pictures: tuple[Tensor, Tensor]
    sides: tuple[Side, Side]
    layers: tuple[Layer, ...] = ()

    @property
    def share(self) -> float:
        """Return the share of the pictures that shows up in the other one and looks alike there, 0 to 1."""
        if self.layers:
            return share_of(self.pictures, self.layers)
        return sum(float((side.fit * (1 - side.hidden)).mean()) for side in self.sides) / 2

    @property
    def sure(self) -> bool:
        """Whether the pictures have enough in common to be moved into each other."""
        return self.share >= (SURE_LAYERS if self.layers else SURE)

    def frame(self, time: float) -> Tensor:
        """Return the frame [H, W, 3] at `time`, 0 (the first picture) to 1 (the second)."""
        if self.layers:
            return frame_of_layers(self.pictures, self.layers, time)
        return frame_between(self.pictures, self.sides, time)


@torch.no_grad()
def match_pictures(first: Tensor, second: Tensor) -> Match:
    """Return the match of two fitted pictures [1, 3, H, W] in -1..1 of one size.

    By layers where flow finds too little, or loses an object that a layer finds; by flow everywhere else.
    """
    pictures = tuple(lay_out(((picture[0].movedim(0, -1).float() + 1) / 2).clamp(0, 1)) for picture in (first, second))
    match = Match(pictures, sides_of(*pictures))
    layered = replace(match, layers=find_layers(*pictures))
    side = match.sides[0]
    lost = not match.sure or lost_by_flow(pictures, layered.layers, side.fit * (1 - side.hidden))
    return layered if lost and layered.sure else match


@torch.no_grad()
def matched_signal(encode: Callable[[Tensor], Tensor], match: Match, frames: int) -> Signal:
    """Return the frames from one picture of `match` to the other, evenly spaced, as a signal of `frames` frames.

    encode: returns the unscaled latent of a picture [1, 3, 8h, 8w] in -1..1, such as `VideoModel.encode_latent`.
    """
    latents = []
    for number in range(frames):
        ends = {0: match.pictures[0], frames - 1: match.pictures[1]}
        frame = ends[number] if number in ends else match.frame(number / (frames - 1))
        picture = lay_out(frame.movedim(-1, 0)[None]) * 2 - 1  # [1, 3, H, W]
        latents.append(encode(picture).float() * LATENT_SCALE)
    clip = torch.cat(latents)
    return Signal(clip, torch.ones_like(clip[:, :1]))


@dataclass(frozen=True, eq=False)
class MatchedBetween(PartialRenoise):
    """Start from the noised frames between two pictures, and hold both ends."""

    def edit_estimate(self, run: Run, x: Tensor, sigma: float, estimate: Tensor) -> Tensor:
        """Hold the last frame as the first one is held."""
        estimate = super().edit_estimate(run, x, sigma, estimate)
        latents, _ = self.signal.on(run)
        weight = 1.0 if sigma > PIN_SIGMA * run.scale else PIN_BELOW
        last = torch.lerp(estimate[-1:], latents[-1:], weight)
        return torch.cat([estimate[:-1], last])
