"""Camera control: the picture warped along a path, as a signal that the sampler imposes on the clip."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...networks.vae import LATENT_SCALE
from ...pictures.fitting import FitMode, fit, resize
from ..signal import MODES, Signal, SignalControl
from .depth import FAR_TO_NEAR, depth_from_foreground, depth_from_map
from .path import CameraPath
from .warp import Warped, shrink, warp

log = logging.getLogger("svd_reel")

EDGE = 1  # latent cells around holes that the encoder mixes with what fills them


class CameraSignal(NamedTuple):
    """The signal, and the frames that it was made of, to look at: [T, 3, H, W] in -1..1 and [T, 1, H, W]."""

    signal: Signal
    warped: Warped


def fit_map(
    values: Tensor, index: int, picture_size: tuple[int, int], width: int, height: int, mode: FitMode, what: str
) -> Tensor:
    """Return map number `index` of `values`, fitted as its picture of (height, width) is: [1, 1, height, width].

    values: [H, W], [B, H, W] or [B, H, W, C]; channels are averaged without alpha, a single map serves every picture.
    A map of another size than the picture is resized first, which the log says; `what` names it there.
    """
    if values.ndim == 4:
        values = values[..., :3].mean(-1)
    if values.ndim not in (2, 3) or not values.numel():
        raise ValueError(
            f"the {what} has shape {list(values.shape)}; give [height, width], [B, height, width] or an image"
        )
    values = values.reshape(-1, 1, *values.shape[-2:])  # [B, 1, h, w]
    if index >= len(values) > 1:
        raise ValueError(f"there are {len(values)} {what}s for picture {index + 1}; give one, or one per picture")
    own = _sized(values[min(index, len(values) - 1)][None], picture_size, what)
    return fit(own, width, height, mode)[0]


def scene_depth(
    size: tuple[int, int],
    depth: Tensor | None = None,
    foreground: Tensor | None = None,
    *,
    far_to_near: float = FAR_TO_NEAR,
) -> Tensor | None:
    """Return distances [1, 1, H, W], 1 at the centre, for a picture of `size` (height, width); None if nothing tells.

    depth: [1, 1, h, w], near is bright; without it the foreground [1, 1, h, w] stands on a plain. Maps of another size
    are resized, which the log says.
    """
    depth = None if depth is None else _sized(depth, size, "depth map")
    foreground = None if foreground is None else _sized(foreground, size, "foreground mask")
    if depth is not None:
        return depth_from_map(depth, foreground, far_to_near=far_to_near)
    return None if foreground is None else depth_from_foreground(foreground, far_to_near=far_to_near)


def _sized(map_: Tensor, size: tuple[int, int], what: str) -> Tensor:
    if map_.ndim != 4 or map_.shape[:2] != (1, 1):
        raise ValueError(f"the {what} has shape {list(map_.shape)}; give one channel of one picture, [1, 1, h, w]")
    if not bool(torch.isfinite(map_).all()):
        raise ValueError(f"the {what} has NaN or infinite values; check the node that made it")
    if tuple(map_.shape[2:]) != size:
        (height, width), (h, w) = size, map_.shape[2:]
        log.warning("the %s is %dx%d, the picture %dx%d pixels; it was resized", what, w, h, width, height)
    return resize(map_.float(), size[1], size[0])


@torch.no_grad()
def camera_signal(
    encode: Callable[[Tensor], Tensor],
    picture: Tensor,
    path: CameraPath,
    frames: int,
    *,
    depth: Tensor | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> CameraSignal:
    """Return what the camera sees of `picture` [1, 3, 8h, 8w] in -1..1 along `path`, in pixels and in latents.

    `encode` takes [1, 3, 8h, 8w] to unscaled latents [1, 4, h, w], as `SVDModel.encode_latent` does. depth: distances
    from `scene_depth`. on_frame(done, frames) reports every encoded frame. Frames in which nothing has moved since the
    last are encoded once.
    """
    poses = path.poses(frames)
    if depth is None and poses.travels:
        log.warning(
            "the camera travels (%s), but there is no depth: the picture moves as a flat board, on which a dolly is a "
            "zoom",
            path.text,
        )
    warped = warp(picture, poses, depth)
    latents: list[Tensor] = []
    for number, frame in enumerate(warped.frames.split(1)):
        still = number > 0 and torch.equal(frame, warped.frames[number - 1 : number])
        latents.append(latents[-1] if still else encode(frame).float() * LATENT_SCALE)
        if on_frame is not None:
            on_frame(number + 1, frames)
    cells = F.avg_pool2d(warped.valid, 8)  # [T, 1, h, w]
    valid = shrink((cells > 0.99).to(cells), EDGE)
    return CameraSignal(Signal(torch.cat(latents), valid), warped)


def camera_control(signal: Signal, mode: str, *, strength: float = 1.0, **settings: float) -> SignalControl:
    """Return the control that imposes `signal` in the way called `mode` (a key of MODES).

    `settings` are fields of that way's class, such as sigma; the others keep their defaults. ValueError for unknown
    modes and for settings that the mode does not have.
    """
    if mode not in MODES:
        raise ValueError(f"the camera mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    kind = MODES[mode]
    unknown = [name for name in settings if name not in kind.__dataclass_fields__]
    if unknown:
        raise ValueError(f"the camera mode {mode!r} has no setting {unknown[0]!r}; leave it out or change the mode")
    return kind(signal, strength, **settings)
