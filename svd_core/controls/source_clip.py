"""A clip as the source of a new one: it is noised and denoised again, and an edit of its first frame is carried along.

The sampler starts from the frames of the source with noise (SDEdit, Meng et al. 2022). The start picture is their first
frame, as it is or edited in a paint program. What was edited is moved along the optical flow of the source, so that
every frame starts with the edit in its place; the model then makes light and edges fit. No extra passes.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..flow.dense import dense_flow, enlarge, visible, warp_back
from ..flow.planes import luminance, resize
from ..flow.shared import fit_similarity
from ..pictures.fitting import FitMode, fit
from ..pictures.reading import lay_out
from .camera.control import WarpedSignal
from .camera.warping import Warped, fill_holes
from .driving_clip import MOTION_SIDE, Clip, pick_frames
from .signal import PartialRenoise, Signal, encode_frames
from .strength import check_share

SOURCE_MODES = ("noise", "inversion")
"""What sampling starts with: the frames with random noise, or with the noise that the model would turn into them."""
DENOISE = 0.4  # the usual share of the sampling
SOURCE_SIGMA = 5.0  # where it starts, for SVD at 1024x576: forms stay, surfaces change
MOST = 0.5  # share of the picture from which on an edit is a new style rather than an object
GAPS = 16  # gaps of unsure flow up to an eighth of the picture lie inside a surface
LIGHT = 0.15  # of the range -1..1
EDITED = 2.5 / 255  # difference to the first frame above which a pixel counts as edited


@torch.no_grad()
def source_frames(picture: Tensor, clip: Clip, frames: int, fit_mode: FitMode = "crop") -> Warped:
    """Return the frames of a source clip with the edit of its first one in all of them, and where that is sure.

    picture: the first frame, edited or not, fitted, [1, 3, H, W] in -1..1. clip: [N, H, W, C] in 0..1; its frames are
    spread evenly over `frames` and fitted by `fit_mode` as the picture was.
    """
    picture = lay_out(picture)
    height, width = picture.shape[2:]
    shown = shown_frames(clip, frames, width, height, fit_mode)
    first, whole = shown[:1], torch.ones_like(shown[:, :1])
    changed = ((picture - first).abs().amax(1, keepdim=True) > 2 * EDITED).to(picture)
    if not bool(changed.any()):
        return Warped(torch.cat([picture, shown[1:]]), whole)
    everywhere = float(changed.mean()) > MOST
    layers = torch.cat([picture, first, changed], dim=1)
    made, sure = [picture], [whole[:1]]
    for frame, (flow, seen) in zip(shown[1:].split(1), _ways_back(shown), strict=True):
        moved, _ = warp_back(layers, enlarge(flow, (height, width)), mode="bicubic")
        known = (F.interpolate(seen, (height, width), mode="bilinear", align_corners=False) > 0.5).to(frame)
        known = _closed(known, min(height, width) // GAPS)
        edited, plain, place = moved.split([3, 3, 1], dim=1)
        if everywhere:  # a new style belongs also to what comes into view
            frame = frame + fill_holes(edited - plain, known)
        else:
            frame = torch.lerp(frame, edited + _light(frame - plain), place.clamp(0, 1) * known)
        made.append(frame.clamp(-1, 1))
        sure.append(known)
    return Warped(torch.cat(made), torch.cat(sure))


def shown_frames(clip: Clip, frames: int, width: int, height: int, fit_mode: FitMode = "crop") -> Tensor:
    """Return `frames` frames of a clip [N, H, W, C] in 0..1, evenly spread and fitted: [T, 3, height, width], -1..1."""
    return lay_out(fit(pick_frames(clip, frames).movedim(-1, 1) * 2 - 1, width, height, fit_mode)[0])


def _closed(known: Tensor, reach: int) -> Tensor:
    """Return `known` [1, 1, H, W] with gaps up to twice `reach` pixels wide closed, such as shiny spots."""
    wide = F.max_pool2d(known, 2 * reach + 1, 1, reach)
    return 1 - F.max_pool2d(1 - wide, 2 * reach + 1, 1, reach)


def _light(difference: Tensor) -> Tensor:
    """Return the small part of what a frame differs by from the moved first one.

    Small differences are light and shade, which belongs on the edit too. Large ones are edges of what the edit covers,
    where the flow is not exact.
    """
    size = difference.abs().mean(1, keepdim=True)
    return difference * torch.exp(-((size / LIGHT) ** 2))


@torch.no_grad()
def source_signal(
    encode: Callable[[Tensor], Tensor],
    picture: Tensor,
    clip: Clip,
    frames: int,
    *,
    fit_mode: FitMode = "crop",
    on_frame: Callable[[int, int], None] | None = None,
) -> WarpedSignal:
    """Return the frames of `source_frames` as a signal in latents, with the frames in pixels.

    encode: returns the unscaled latent of a picture [1, 3, 8h, 8w]. on_frame(done, frames) reports progress.
    """
    rough = source_frames(picture, clip, frames, fit_mode)
    cells = encode_frames(encode, rough.frames, on_frame)
    return WarpedSignal(Signal(cells, torch.ones_like(cells[:, :1])), rough)


def source_control(signal: Signal, denoise: float = DENOISE) -> PartialRenoise:
    """Return the control that starts from `signal` with noise.

    denoise: share of the sampling that is done, 0 to 1; 0.2 keeps nearly everything, 1 nothing, so that the control is
    off. The share is that of SVD at 1024x576, and means as much with other sizes and models.
    """
    check_share("the denoising of a source clip", denoise, f"use {DENOISE:g}")
    return PartialRenoise(signal, (1 - denoise) / (1 - DENOISE), sigma=SOURCE_SIGMA)


def _ways_back(shown: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the flow [1, 2, h, w] from each frame after the first back to the first, and how sure it is [1, 1, h, w].

    The flows of neighbours are chained: neighbours match even where the first frame no longer looks alike.
    """
    height, width = shown.shape[2:]
    scale = min(1.0, MOTION_SIDE / max(height, width))
    size = (max(16, round(height * scale)), max(16, round(width * scale)))
    greys = [resize(luminance((frame.movedim(0, -1) + 1) / 2)[None, None], size) for frame in shown]
    total = sure = None
    for before, after in zip(greys[:-1], greys[1:], strict=True):
        shared = fit_similarity(after, before)
        back, forth = dense_flow(after, before, shared), dense_flow(before, after, shared.inverse())
        seen = visible(back, forth)[:, None]
        if total is None:
            total, sure = back, seen
        else:
            total, sure = back + warp_back(total, back)[0], seen * warp_back(sure, back)[0]
        yield total, sure
