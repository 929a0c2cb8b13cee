"""Control by a clip: the user's own rough animation, or the motion of a driving clip, imposed on the start picture.

Three uses of a clip. "animation" takes its frames as they are, with a mask of what counts (Time-to-Move, 2025): a
previz, a puppet, a screen capture. "camera" takes the pan, tilt, zoom and roll that most of its picture shares, and
suits any picture. "flow" takes the motion of every pixel, and suits a picture with the same layout. All become a signal
for `signal.DualClock` and the other modes: no extra passes, no gradients.
"""

import logging
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.between import splat
from ..flow.dense import dense_flow, enlarge, visible, warp_back
from ..flow.planes import extent, inside, luminance, positions, resize, sample
from ..flow.shared import Similarity, fit_similarity
from ..pictures.fitting import FitMode, fit
from ..pictures.reading import lay_out
from .camera.control import EDGE, WarpedSignal
from .camera.warping import ENOUGH, Warped, fill_beyond, fill_holes, shrink
from .signal import Signal, encode_frames

log = logging.getLogger("svd_reel")

USES = ("animation", "camera", "flow")
"""What is taken from a clip: its frames, the motion that most of it shares, or the motion of every pixel."""
MOTION_SIDE = 256  # longer side in pixels at which motion is estimated
LIKE_START = 20.0  # dB; an animation whose first frame is further from the start picture gets a line in the log

Clip = Tensor | Sequence[Tensor]


def pick_frames(clip: Clip, frames: int) -> Tensor:
    """Return `frames` frames [frames, H, W, 3], evenly spread over a clip, its first and last included."""
    if frames < 2 or len(clip) < 2:
        raise ValueError(f"control by a clip needs 2 frames or more (got {len(clip)} for {frames}); use a longer clip")
    index = torch.linspace(0, len(clip) - 1, frames).round().long().tolist()
    picked = torch.stack([clip[place] for place in index])
    if picked.ndim != 4 or picked.shape[-1] < 3:
        raise ValueError(f"the clip has shape {list(picked.shape)}; give frames [T, height, width, 3] in 0..1")
    return lay_out(picked[..., :3].float().clamp(0, 1))


@torch.no_grad()
def driven_frames(
    picture: Tensor,
    clip: Clip,
    frames: int,
    use: str = "animation",
    *,
    mask: Tensor | None = None,
    amount: float = 1.0,
    fit_mode: FitMode = "crop",
) -> Warped:
    """Return the rough frames for a fitted picture [1, 3, H, W] in -1..1, and where they count.

    use: one of USES. mask: for "animation", white where it counts, [H, W], [1, H, W] or one per frame of the clip,
    [N, H, W], in 0..1; None takes all. amount: factor of the motion for "camera" and "flow", 0 to 2.
    fit_mode: how frames of an animation fill the picture.
    """
    if use not in USES:
        raise ValueError(f"the use of a clip {use!r} is unknown; use one of {', '.join(USES)}")
    if not 0 <= amount <= 4:
        raise ValueError(f"the amount of a clip's motion must be 0 to 4 (got {amount:g}); use 0.5 to 1.5")
    picked, picture = pick_frames(clip, frames), lay_out(picture)
    if use == "animation":
        return _animation(picture, picked, _picked_mask(mask, len(clip), frames), fit_mode)
    if mask is not None:
        raise ValueError(f"a mask has no effect with the use {use!r} of a clip; leave it out, or use animation")
    height, width = picked.shape[1:3]
    scale = min(1.0, MOTION_SIDE / max(height, width))
    size = (max(16, round(height * scale)), max(16, round(width * scale)))
    grey = torch.cat([resize(luminance(frame)[None, None], size) for frame in picked])  # [T, 1, h, w]
    return _filmed(picture, grey, amount) if use == "camera" else _carried(picture, grey, amount)


@torch.no_grad()
def driving_signal(
    encode: Callable[[Tensor], Tensor],
    picture: Tensor,
    clip: Clip,
    frames: int,
    use: str = "animation",
    *,
    on_frame: Callable[[int, int], None] | None = None,
    **settings: Tensor | float | str | None,
) -> WarpedSignal:
    """Return the signal of a clip in latents, with its frames in pixels; see `driven_frames` for the other arguments.

    encode: returns the unscaled latent of a picture [1, 3, 8h, 8w]. on_frame(done, frames) reports progress.
    """
    rough = driven_frames(picture, clip, frames, use, **settings)
    latents = encode_frames(encode, rough.frames, on_frame)
    cells = F.avg_pool2d(rough.valid, 8)
    limit = 0.5 if use == "animation" else 0.99
    valid = (cells > limit).to(cells)
    valid = valid if use == "animation" else shrink(valid, EDGE)
    valid[0] = 1.0
    return WarpedSignal(Signal(latents, valid), rough)


def _picked_mask(mask: Tensor | None, count: int, frames: int) -> Tensor | None:
    """Return the mask [1 | T, 1, H, W] of the picked frames."""
    if mask is None:
        return None
    mask = mask[..., :3].mean(-1) if mask.ndim == 4 else mask
    mask = mask[None] if mask.ndim == 2 else mask
    if len(mask) not in (1, count):
        raise ValueError(
            f"the mask of the clip needs 1 frame or {count} (got {len(mask)}); give one for all, or one per frame"
        )
    if len(mask) > 1:
        mask = mask[torch.linspace(0, count - 1, frames).round().long()]
    return lay_out(mask.float())[:, None]


def _animation(picture: Tensor, picked: Tensor, mask: Tensor | None, fit_mode: FitMode) -> Warped:
    """Fit the frames and the mask to the picture; the first frame is the picture itself."""
    height, width = picture.shape[2:]
    shown = fit(picked.movedim(-1, 1) * 2 - 1, width, height, fit_mode)[0]  # [T, 3, H, W]
    error = (shown[:1] - picture).square().mean() / 4
    closeness = float(-10 * error.clamp(min=1e-9).log10())
    if closeness < LIKE_START:
        log.info(
            "the animation's first frame differs from the start picture (PSNR %.0f dB); begin it with the picture",
            closeness,
        )
    valid = torch.ones_like(shown[:, :1])
    if mask is not None:
        valid = fit(mask * 2 - 1, width, height, fit_mode)[0].clamp(-1, 1) / 2 + 0.5
        valid = (valid > 0.5).to(shown).expand(len(shown), -1, -1, -1)
    return Warped(torch.cat([picture, shown[1:]]), torch.cat([torch.ones_like(valid[:1]), valid[1:]]))


def _filmed(picture: Tensor, grey: Tensor, amount: float) -> Warped:
    """Move the picture as most of the clip moves: by the similarities of its pairs, put together."""
    pairs = fit_similarity(grey[:-1], grey[1:])
    reach = extent(*picture.shape[2:])
    x, y = positions(picture, reach)
    scale, shift = torch.ones(1, dtype=torch.complex64), torch.zeros(1, dtype=torch.complex64)
    frames, valid = [picture], [torch.ones_like(picture[:, :1])]
    for number in range(len(grey) - 1):
        step = torch.polar(pairs.scale[number].abs() ** amount, pairs.scale[number].angle() * amount)[None]
        scale, shift = step * scale, step * shift + amount * pairs.shift[number][None]
        none = torch.zeros(1)
        there = Similarity(1 / scale, -shift / scale, none, none).move(x, y)  # where each pixel comes from
        covered = inside(*there, reach)[:, None]
        moved = sample(picture, *there, reach, mode="bicubic", beyond="reflection").clamp(-1, 1)
        frames.append(fill_beyond(moved, covered))
        valid.append(covered)
    return Warped(torch.cat(frames), torch.cat(valid))


def _carried(picture: Tensor, grey: Tensor, amount: float) -> Warped:
    """Move every pixel of the picture as the clip moves there, where the motion is sure in both directions."""
    height, width = picture.shape[2:]
    total = sure = None
    frames, valid = [picture], [torch.ones_like(picture[:, :1])]
    for before, after in zip(grey[:-1], grey[1:], strict=True):
        first, second = before[None], after[None]
        shared = fit_similarity(first, second)
        forward, backward = dense_flow(first, second, shared), dense_flow(second, first, shared.inverse())
        seen = visible(forward, backward)[:, None]
        if total is None:
            total, sure = forward, seen
        else:
            # The flow from the first frame goes on from where it has arrived.
            total, sure = total + warp_back(forward, total)[0], sure * warp_back(seen, total)[0]
        flow = enlarge(total * amount, (height, width))
        trust = F.interpolate(sure, (height, width), mode="bilinear", align_corners=False)
        weight = 1e-3 + trust
        sums = splat(torch.cat([picture * weight, weight, trust], dim=1), flow)
        covered = (sums[:, 4:5] > ENOUGH).to(picture)
        frames.append(fill_holes((sums[:, :3] / sums[:, 3:4].clamp(min=1e-6)).clamp(-1, 1), covered))
        valid.append(covered)
    return Warped(torch.cat(frames), torch.cat(valid))
