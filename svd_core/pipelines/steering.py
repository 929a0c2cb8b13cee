"""What steers every clip of a batch, made of its picture: camera paths, dragged objects, motion masks."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..controls.brush import MotionBrush, motion_brush
from ..controls.camera.control import WarpedSignal, camera_signal, fit_map, scene_depth
from ..controls.camera.depth import FAR_TO_NEAR
from ..controls.camera.path import CameraPath
from ..controls.drag import DragPath, drag_signal
from ..controls.driving_clip import driving_signal
from ..controls.source_clip import source_signal
from ..model.model import VideoModel
from ..pictures.fitting import FitMode
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
    target = tuple(pictures.shape[2:])
    made = []
    for number, picture in enumerate(pictures.split(1)):
        distances = picture_depth(
            number, target, depth, foreground, size=size, fit_mode=fit_mode, far_to_near=far_to_near
        )
        report = count_work(on_frame, number, len(pictures))
        made.append(camera_signal(model.encode_latent, picture, path, frames, depth=distances, on_frame=report))
    return made


def picture_depth(
    number: int,
    target: tuple[int, int],
    depth: Tensor | None = None,
    foreground: Tensor | None = None,
    *,
    size: tuple[int, int],
    fit_mode: str,
    far_to_near: float = FAR_TO_NEAR,
) -> Tensor | None:
    """Return the distances [1, 1, H, W] in picture `number`, fitted to `target` (height, width); None without a map.

    The other arguments are those of `camera_signals`.
    """
    height, width = target
    fitted = [
        None if values is None else fit_map(values, number, size, width, height, fit_mode, what)
        for what, values in (("depth map", depth), ("foreground mask", foreground))
    ]
    return scene_depth(target, *fitted, far_to_near=far_to_near)


def drag_signals(
    model: VideoModel,
    pictures: Tensor,
    objects: Sequence[tuple[Tensor, DragPath]],
    frames: int,
    *,
    on_frame: OnFrame | None = None,
    **settings: float | CameraPath | Tensor | None,
) -> list[WarpedSignal]:
    """Return the signal of `objects` dragged over every fitted picture of [B, 3, 8h, 8w].

    settings: background, camera and depth of `drag_signal`.
    """
    made = []
    for number, picture in enumerate(pictures.split(1)):
        report = count_work(on_frame, number, len(pictures))
        made.append(drag_signal(model.encode_latent, picture, objects, frames, on_frame=report, **settings))
    return made


def driving_signals(
    model: VideoModel,
    pictures: Tensor,
    clip: Tensor,
    frames: int,
    use: str,
    *,
    on_frame: OnFrame | None = None,
    **settings: float | Tensor | str | None,
) -> list[WarpedSignal]:
    """Return the signal of `clip` [N, H, W, C] for every fitted picture of [B, 3, 8h, 8w]; see `driving_signal`."""
    made = []
    for number, picture in enumerate(pictures.split(1)):
        report = count_work(on_frame, number, len(pictures))
        made.append(driving_signal(model.encode_latent, picture, clip, frames, use, on_frame=report, **settings))
    return made


def source_signals(
    model: VideoModel,
    pictures: Tensor,
    clip: Tensor,
    frames: int,
    *,
    fit_mode: FitMode = "crop",
    on_frame: OnFrame | None = None,
) -> list[WarpedSignal]:
    """Return the signal of the source `clip` [N, H, W, C] for every fitted picture of [B, 3, 8h, 8w], its first frame.

    See `source_clip.source_signal`.
    """
    made = []
    for number, picture in enumerate(pictures.split(1)):
        report = count_work(on_frame, number, len(pictures))
        made.append(source_signal(model.encode_latent, picture, clip, frames, fit_mode=fit_mode, on_frame=report))
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
