"""What steers every clip of a batch, made of its picture: camera paths, dragged objects, motion masks."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..controls.brush import MotionBrush, motion_brush
from ..controls.camera.control import WarpedSignal, camera_signal, fit_map, scene_depth
from ..controls.camera.depth import FAR_TO_NEAR
from ..controls.camera.path import CameraPath
from ..controls.drag import BACKGROUND, DragPath, drag_signal
from ..model.model import VideoModel
from .batch import count_work

OnFrame = Callable[[int, int], None]


def camera_signals(
    model: VideoModel,
    pictures: Tensor,
    path: CameraPath,
    frames: int,
    *,
    depth: Tensor | None = None,
    foreground: Tensor | None = None,
    size: tuple[int, int],
    fit_mode: str,
    far_to_near: float = FAR_TO_NEAR,
    on_frame: OnFrame | None = None,
) -> list[WarpedSignal]:
    """Return what the camera sees along `path` of every fitted picture of [B, 3, 8h, 8w] in -1..1.

    depth, foreground: one map for all pictures, or one each, of any size; near is bright.
    size: (height, width) of the pictures before they were fitted with `fit_mode`; the maps are fitted likewise.
    far_to_near: how many times as far the farthest thing is as the nearest.
    on_frame: called with (done, total), counted over all pictures.
    """
    height, width = pictures.shape[2:]
    maps = {"depth map": depth, "foreground mask": foreground}
    made = []
    for number, picture in enumerate(pictures.split(1)):
        fitted = [
            None if values is None else fit_map(values, number, size, width, height, fit_mode, what)
            for what, values in maps.items()
        ]
        distances = scene_depth((height, width), *fitted, far_to_near=far_to_near)
        report = count_work(on_frame, number, len(pictures))
        made.append(camera_signal(model.encode_latent, picture, path, frames, depth=distances, on_frame=report))
    return made


def drag_signals(
    model: VideoModel,
    pictures: Tensor,
    objects: Sequence[tuple[Tensor, DragPath]],
    frames: int,
    *,
    background: float = BACKGROUND,
    on_frame: OnFrame | None = None,
) -> list[WarpedSignal]:
    """Return the signal of `objects` dragged over every fitted picture of [B, 3, 8h, 8w]; see `drag_signal`."""
    made = []
    for number, picture in enumerate(pictures.split(1)):
        report = count_work(on_frame, number, len(pictures))
        signal = drag_signal(model.encode_latent, picture, objects, frames, background=background, on_frame=report)
        made.append(signal)
    return made


def motion_brushes(
    model: VideoModel, pictures: Tensor, masks: Sequence[Tensor], **settings: float | bool | None
) -> list[MotionBrush]:
    """Return the motion mask control of every clip: one picture of [1|B, ...] and one entry of `masks` (1 or B) each.

    `settings` are those of `motion_brush`.
    """
    rows = pictures.split(1)
    return [
        motion_brush(model.encode_latent, rows[clip % len(rows)], masks[clip % len(masks)], **settings)
        for clip in range(max(len(rows), len(masks)))
    ]
