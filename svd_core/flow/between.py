"""Interpolate frames by optical flow, without a network: flow is estimated small and applied at full size.

The flows in both directions are splatted to the time in between, weighted by how well each pixel fits. Both frames are
then warped to that time and mixed. What only one of them shows is taken from that one. Splatting follows Niklaus and
Liu, "Softmax Splatting for Video Frame Interpolation" (2020), without its networks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .dense import dense_flow, visible, warp_back
from .planes import blur, lay_out, luminance, resize
from .shared import fit_similarity

ESTIMATE_SIDE = 768  # longer side in pixels for motion estimation: larger frames take longer and match worse
ROWS_AT_ONCE = 256  # rows of a full-size frame per chunk, so that a 4K frame needs only tens of megabytes more
FIT = 30.0  # decay of a pixel's weight with its luminance error
HIDDEN = 0.02  # weight of pixels that the other frame does not show, lower than that of any that fits
SOFT = 1.5  # pixels of blur of the mixing weights, against hard seams
FILL, FAINT = 6.0, 1e-4  # blur in pixels that fills holes of the flow, and its weight where there is no hole
LEAST_SEEN = 0.15  # share of the picture that both frames must show; below it the pair is a cut


@dataclass(frozen=True)
class Side:
    """One frame of a pair at the size of estimation.

    flow: [1, 2, h, w] in pixels, to the other frame. fit: [1, 1, h, w] in 0..1, how well each pixel matches there.
    hidden: [1, 1, h, w] in 0..1, whether the other frame does not show it.
    """

    flow: Tensor
    fit: Tensor
    hidden: Tensor


def sides_of(earlier: Tensor, later: Tensor, longest: int = ESTIMATE_SIDE) -> tuple[Side, Side]:
    """Return the motion between two frames [H, W, 3] in 0..1, seen from each; estimated at `longest` pixels at most."""
    height, width = earlier.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = (max(8, round(height * shrink)), max(8, round(width * shrink)))
    first, second = (resize(luminance(lay_out(frame.float()))[None, None], size) for frame in (earlier, later))
    shared = fit_similarity(first, second)
    forward, backward = dense_flow(first, second, shared), dense_flow(second, first, shared.inverse())
    return _side(first, second, forward, backward), _side(second, first, backward, forward)


def _side(own: Tensor, other: Tensor, flow: Tensor, back: Tensor) -> Side:
    error = blur((warp_back(other, flow)[0] - own).abs(), 1.0)
    return Side(flow, torch.exp(-FIT * error), 1 - visible(flow, back)[:, None])


def frames_between(earlier: Tensor, later: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
    """Yield the frames [H, W, 3] at `times` between 0, the earlier frame [H, W, 3] in 0..1, and 1, the later one.

    At a cut, where the two have too little in common, the nearer one is repeated.
    """
    if not times:
        return
    earlier, later = lay_out(earlier.float()), lay_out(later.float())
    first, second = sides_of(earlier, later)
    if 1 - float(first.hidden.mean()) < LEAST_SEEN:
        for time in times:
            yield (earlier if time < 0.5 else later).clone()
        return
    for time in times:
        yield frame_between((earlier, later), (first, second), time)


def frame_between(frames: tuple[Tensor, Tensor], sides: tuple[Side, Side], time: float) -> Tensor:
    """Return the frame [H, W, 3] at `time`, 0 to 1, between two [H, W, 3] in 0..1 whose motion is `sides`."""
    pictures = [lay_out(frame.movedim(-1, 0)[None]) for frame in frames]  # [1, 3, H, W]
    return _render(*pictures, *seen_from(*sides, time))


def seen_from(first: Side, second: Side, time: float) -> tuple[Tensor, Tensor]:
    """Return the flows [1, 4, h, w] from `time` to both frames, and the weight [1, 1, h, w] of the later one.

    Channels of the flows: x and y to the earlier frame, x and y to the later one.
    """
    here = _carried(first, time, (-time, 1 - time), 1 - time)
    there = _carried(second, 1 - time, (time, time - 1), time)
    sums = here + there
    sums = sums + FAINT * blur(sums, FILL)
    flows, weight, both = sums[:, :4], sums[:, 4:5], sums[:, 5:6]
    # Hidden pixels have little weight: they decide only where no other pixel arrives.
    only_first, only_second = here[:, 6:7], there[:, 6:7]
    alone = FAINT * torch.ones_like(both)
    share = (time * (both + alone) + only_second) / (both + alone + only_first + only_second)
    return flows / weight.clamp(min=1e-12), blur(share, SOFT)


def _carried(side: Side, part: float, reach: tuple[float, float], nearness: float) -> Tensor:
    """Splat one frame's pixels along `part` of their flow and return sums [1, 7, h, w].

    Channels: weighted flow to both frames (4), weight, fit of pixels that both frames show, and of those that only this
    one shows. reach: the flows to both frames in units of its own flow. nearness: weight of this frame at that time.
    """
    both, alone = side.fit * (1 - side.hidden), HIDDEN * side.hidden
    weight = nearness * both + alone
    columns = [reach[0] * side.flow * weight, reach[1] * side.flow * weight, weight, both, alone]
    return splat(torch.cat(columns, dim=1), part * side.flow)


def splat(values: Tensor, flow: Tensor) -> Tensor:
    """Return the sums of values [1, C, h, w] where `flow` [1, 2, h, w] moves them, each shared among four pixels."""
    height, width = values.shape[-2:]
    flat = values.flatten(2)[0]  # [C, h*w]
    y, x = torch.meshgrid(torch.arange(height).to(flow), torch.arange(width).to(flow), indexing="ij")
    to_x, to_y = (x + flow[0, 0]).flatten(), (y + flow[0, 1]).flatten()
    left, top = to_x.floor(), to_y.floor()
    result = torch.zeros_like(flat)
    for down in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + down
            weight = (1 - (to_x - column).abs()) * (1 - (to_y - row).abs())
            weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            result.index_add_(1, index.long(), flat * weight)
    return result.view(values.shape)


def _render(earlier: Tensor, later: Tensor, flows: Tensor, share: Tensor) -> Tensor:
    """Return the frame [H, W, 3]: both pictures [1, 3, H, W] warped along `flows` and mixed by `share`."""
    height, width = earlier.shape[-2:]
    scale = flows.new_tensor([2 / flows.shape[-1], 2 / flows.shape[-2]] * 2).reshape(1, 4, 1, 1)
    plan = F.interpolate(
        torch.cat([flows * scale, share], dim=1), (height, width), mode="bilinear", align_corners=False
    )
    x = (2 * torch.arange(width) + 1 - width).to(plan) / width  # grid_sample: -1 and 1 are the edges
    y = ((2 * torch.arange(height) + 1 - height).to(plan) / height)[:, None]
    frame = earlier.new_empty(height, width, 3)
    for top in range(0, height, ROWS_AT_ONCE):
        rows = slice(top, min(top + ROWS_AT_ONCE, height))
        part = plan[:, :, rows]
        seen = [
            F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
            for picture, column in ((earlier, 0), (later, 2))
            for grid in [torch.stack([x + part[:, column], y[rows] + part[:, column + 1]], dim=-1)]
        ]
        frame[rows] = torch.lerp(*seen, part[:, 4:5])[0].movedim(0, -1)
    return frame.clamp_(0, 1)
