"""Camera control: the picture warped along a camera path, as a signal that the sampler imposes on the clip."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pictures.fitting import FitMode, fit, resize
from ...pictures.reading import lay_out
from ..signal import SIGNAL_MODES, DualClock, ReplaceEstimate, Signal, SignalControl, encode_frames
from .depth import FAR_TO_NEAR, depth_from_foreground, depth_from_map
from .path import CameraPath
from .warping import Warped, shrink, warp

log = logging.getLogger("svd_reel")

EDGE = 1  # latent cells around holes that the encoder mixes with what fills them


class WarpedSignal(NamedTuple):
    """A signal, and the frames that it was encoded from: [T, 3, H, W] in -1..1 and [T, 1, H, W]."""

    signal: Signal
    warped: Warped


def fit_map(
    values: Tensor, index: int, picture_size: tuple[int, int], width: int, height: int, mode: FitMode, what: str
) -> Tensor:
    """Return one map of `values`, fitted as its picture of (height, width) is: [1, 1, height, width].

    values: [H, W], [B, H, W] or [B, H, W, C]. Colour channels are averaged and alpha is ignored. A single map serves
    every picture. index: number of the picture. what: name of the map in messages.
    A map of another size than the picture is resized first, with a warning. Raises ValueError for other shapes.
    """
    if values.ndim == 4:
        values = values[..., :3].mean(-1)
    if values.ndim not in (2, 3) or not values.numel():
        raise ValueError(
            f"the {what} has shape {list(values.shape)}; give [height, width], [B, height, width] or an image"
        )
    values = lay_out(values).reshape(-1, 1, *values.shape[-2:])  # [B, 1, h, w]
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
    """Return distances [1, 1, H, W], 1 at the centre, for a picture of `size` (height, width); None without a map.

    depth: [1, 1, h, w], bright is near. foreground: mask [1, 1, h, w] of an object; without a depth map it stands on a
    plain. Maps of another size are resized, with a warning.
    """
    depth = None if depth is None else _sized(depth, size, "depth map")
    foreground = None if foreground is None else _sized(foreground, size, "foreground mask")
    if depth is not None:
        return depth_from_map(depth, foreground, far_to_near=far_to_near)
    return None if foreground is None else depth_from_foreground(foreground, far_to_near=far_to_near)


def _sized(map_: Tensor, size: tuple[int, int], what: str) -> Tensor:
    """Return a map [1, 1, h, w] at another size (height, width); raises ValueError for other shapes and for NaN."""
    if map_.ndim != 4 or map_.shape[:2] != (1, 1):
        raise ValueError(f"the {what} has shape {list(map_.shape)}; give one channel of one picture, [1, 1, h, w]")
    if not bool(torch.isfinite(map_).all()):
        raise ValueError(f"the {what} has NaN or infinite values; check the node that made it")
    if tuple(map_.shape[2:]) != size:
        (height, width), (h, w) = size, map_.shape[2:]
        log.warning("the %s is %dx%d, the picture %dx%d pixels; the map was resized", what, w, h, width, height)
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
) -> WarpedSignal:
    """Return what the camera sees of `picture` [1, 3, 8h, 8w] in -1..1 along `path`, as latents and in pixels.

    encode: returns unscaled latents [1, 4, h, w] of [1, 3, 8h, 8w], such as `SVDModel.encode_latent`. depth: distances
    from `scene_depth`. on_frame(done, frames) reports progress.
    """
    poses = path.poses(frames)
    if depth is None and poses.travels:
        log.warning(
            "the camera path %s changes the position of the camera, but there is no depth map: the picture moves as a "
            "flat board, so a dolly looks like a zoom",
            path.text,
        )
    warped = warp(picture, poses, depth)
    latents = encode_frames(encode, warped.frames, on_frame)
    cells = F.avg_pool2d(warped.valid, 8)  # [T, 1, h, w]
    valid = shrink((cells > 0.99).to(cells), EDGE)
    return WarpedSignal(Signal(latents, valid), warped)


def camera_control(signal: Signal, mode: str, *, strength: float = 1.0, **settings: float) -> SignalControl:
    """Return the control that imposes `signal` by `mode`, a key of SIGNAL_MODES.

    settings: fields of the class of that mode, such as sigma. Raises ValueError for unknown modes and for settings that
    the mode does not have.
    """
    if mode not in SIGNAL_MODES:
        raise ValueError(f"the camera mode {mode!r} is unknown; use one of {', '.join(SIGNAL_MODES)}")
    kind = SIGNAL_MODES[mode]
    unknown = [name for name in settings if name not in kind.__dataclass_fields__]
    if unknown:
        raise ValueError(f"the camera mode {mode!r} has no setting {unknown[0]!r}; remove it or change the mode")
    return kind(signal, strength, **settings)


def mode_settings(
    mode: str, sigma: float = 0.0, repeats: int = 1, keep: float = 1.0, last_weight: float = 1.0, refine: int = 0
) -> dict[str, float]:
    """Return the settings of a mode besides its strength, for `camera_control`; a sigma of 0 is the mode's own.

    repeats, keep, last_weight and refine are for replace estimate; other modes ignore them.
    """
    settings: dict[str, float] = {"sigma": sigma} if sigma > 0 else {}
    if SIGNAL_MODES.get(mode) is DualClock and sigma > 0:
        # Keep the ratio of both levels as in the published constants.
        settings["sigma_weak"] = sigma * DualClock.sigma_weak / DualClock.sigma
    if SIGNAL_MODES.get(mode) is ReplaceEstimate:
        settings |= {"repeats": repeats, "keep": keep, "last": last_weight, "refine": refine}
    return settings
