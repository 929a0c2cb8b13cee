"""A clip with every control by name: the camera of the settings, end pictures, loops, motion masks, dragged objects,
ControlNets, camera weights.

Python, the command line and batch rows give the same names, and all make their clips by `steered_clip`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from ..controls.brush import motion_brush
from ..controls.camera.control import camera_control, fit_map, mode_settings
from ..controls.camera.moves import parse_path
from ..controls.camera.pose_files import MOST_TEXT, parse_poses
from ..controls.camera.weights import CameraRows
from ..controls.drag import DragPath, drag_signal, parse_drags
from ..controls.driving_clip import USES, driving_signal
from ..controls.inversion import inverted_control
from ..controls.mask import fit_masks
from ..controls.source_clip import SOURCE_MODES, source_control, source_signal
from ..model.model import VideoModel
from ..pictures import as_batch, as_image, fit
from ..sampling.controls import Control
from ..video import read_clip
from .batch import OnDecode, OnStep
from .between import BETWEEN_MODES, FINE_TUNED, LOOP_MODES, inbetween, loop
from .clip import animate
from .settings import AnimateSettings
from .steered_networks import CONTROLNET_OPTIONS, check_network_numbers, fine_tuned, network_controls
from .steering import picture_depth

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
NETWORKS = ("controlnet", "camera_weights", "between_weights")
"""Fields of Steering that are networks: paths until `checkpoints.networks_by_name` has loaded them."""
CLIPS = ("control_clip", "control_mask", "controlnet_images", "source_clip")
"""Fields that are pictures or clips."""
TEXTS = ("camera_poses",)
"""Fields that are text files."""
PICTURE_FILES = ("end_image", "motion_mask", "drag_mask", "depth", "foreground", "controlnet_mask")
FILES = (*PICTURE_FILES, *CLIPS, *TEXTS, *NETWORKS)
"""All fields of Steering that are files."""

NEEDS = (
    (
        ("mask_feather", "mask_strength", "mask_sigma", "mask_invert", "still_bucket", "moving_bucket", "keep_still"),
        ("motion_mask",),
    ),
    (("drag_scale", "drag_rotation", "drag_easing", "drag_strength", "drag_sigma", "drag_background"), ("drag",)),
    (("drag",), ("drag_mask",)),
    (("drag_mask",), ("drag",)),
    (("between_mode", "between_strength"), ("end_image", "loop")),
    (("between_weights", "exact_ends"), ("end_image",)),
    (("between_repeats",), ("between_weights",)),
    (("depth", "foreground"), ("camera",)),
    (("control_mask", "control_use", "control_amount", "control_strength", "control_mode"), ("control_clip",)),
    (("denoise", "source_mode"), ("source_clip",)),
    (("controlnet",), ("controlnet_images",)),
    (tuple(f"controlnet_{name}" for name in CONTROLNET_OPTIONS), ("controlnet",)),
    (("controlnet_detail",), ("controlnet_lines",)),
    (("camera_poses", "camera_speed", "camera_start", "camera_end"), ("camera_weights",)),
    (("camera_weights",), ("camera", "camera_poses")),
)
"""Fields that have no effect unless one of others is given."""

EXCLUDES = (
    (("end_image", "loop"), ("camera", "extend", "motion_mask", "drag", "control_clip", "source_clip")),
    (("control_clip",), ("camera", "drag")),
    (("source_clip",), ("camera", "drag", "control_clip")),
    (("drag_background",), ("camera",)),
    (("camera_weights",), ("windows", "extend", "loop", "end_image", "depth", "foreground", "drag", "control_clip")),
    (("camera_poses",), ("camera",)),
)
"""Fields that cannot be combined with others."""

ON = ("keep_still", "exact_ends")
"""Fields that are on unless they are given as False."""

USUAL_MODE = "dual clock"
"""How dragged objects are imposed, and clips unless control_mode says otherwise."""


@dataclass(frozen=True, eq=False)
class Steering:
    """What steers a clip besides AnimateSettings; None is off, or the default of the control.

    end_image: one picture or several, reached one after the other; a sequence of images as `animate` takes them.
    loop: end where the clip began. between_mode: how a clip reaches its end, one of BETWEEN_MODES or LOOP_MODES.
    between_strength: how closely, 0 to 1. exact_ends: show the pixels of the pictures at the ends.
    motion_mask: image [B, H, W, C] in 0..1 of where things move, white. mask_feather: its soft edge in percent of the
    side, 0 to 10. mask_strength: share of the steps in which still areas are held, 0 to 1. mask_sigma: noise level down
    to which. mask_invert: black moves. still_bucket, moving_bucket: motion buckets of the two areas, 1 to 255.
    keep_still: show the pixels of the picture in the still areas.
    drag: paths "x,y; x,y" in 0..1 of the picture, one for each picture of drag_mask, separated by "|". drag_mask: white
    where the objects are. drag_scale, drag_rotation: factors and degrees reached one after the other, as text.
    drag_easing: speed along the path. drag_strength: 0 to 2. drag_sigma: noise level down to which the path is imposed.
    drag_background: hold of the rest, 0 to 1. With a camera in the settings, the objects move in the scene that it
    films.
    depth, foreground: images for the camera; near is bright, the object is white.
    control_clip: frames [N, H, W, 3] in 0..1 that the clip follows. control_mask: white where they count, one or one
    per frame. control_use: what is taken from them, one of driving_clip.USES. control_amount: factor of their motion.
    control_strength: 0 to 2. control_mode: how it is imposed, one of SIGNAL_MODES.
    source_clip: frames [N, H, W, 3] in 0..1 that are changed; the image is the first of them, as it is or edited.
    denoise: share of the sampling that changes them, 0 to 1. source_mode: one of source_clip.SOURCE_MODES.
    controlnet: an SVD ControlNet. controlnet_images: its control pictures [N, H, W, C] in 0..1, one per frame;
    controlnet_lines: draw their lines first; controlnet_detail: how many faint ones, 1 is usual. controlnet_strength:
    one value, or several over the frames, also as text. controlnet_start, controlnet_end: shares of the sampling.
    controlnet_mask: white where it acts. controlnet_sums, controlnet_numbers: of `controls.controlnet`.
    controlnet_conditional: control the conditional pass only.
    camera_weights: MotionCtrl or CameraCtrl weights, which follow the camera of the settings, or camera_poses.
    camera_speed: factor of how far the camera travels, 0 to 8. camera_start, camera_end: shares of the sampling.
    between_weights: backward motion weights, for end pictures; the mode is "fine-tuned" then. between_repeats: 0 to 20.
    """

    end_image: Sequence[Any] | None = None
    loop: bool | None = None
    between_mode: str | None = None
    between_strength: float | None = None
    exact_ends: bool | None = None
    motion_mask: Tensor | None = None
    mask_feather: float | None = None
    mask_strength: float | None = None
    mask_sigma: float | None = None
    mask_invert: bool | None = None
    still_bucket: float | None = None
    moving_bucket: float | None = None
    keep_still: bool | None = None
    drag: str | None = None
    drag_mask: Tensor | None = None
    drag_scale: str | None = None
    drag_rotation: str | None = None
    drag_easing: str | None = None
    drag_strength: float | None = None
    drag_sigma: float | None = None
    drag_background: float | None = None
    depth: Tensor | None = None
    foreground: Tensor | None = None
    control_clip: Tensor | None = None
    control_mask: Tensor | None = None
    control_use: str | None = None
    control_amount: float | None = None
    control_strength: float | None = None
    control_mode: str | None = None
    source_clip: Tensor | None = None
    denoise: float | None = None
    source_mode: str | None = None
    controlnet: Any = None
    controlnet_images: Tensor | None = None
    controlnet_lines: bool | None = None
    controlnet_detail: float | None = None
    controlnet_strength: Sequence[float] | float | str | None = None
    controlnet_start: float | None = None
    controlnet_end: float | None = None
    controlnet_mask: Tensor | None = None
    controlnet_sums: str | None = None
    controlnet_numbers: str | None = None
    controlnet_conditional: bool | None = None
    camera_weights: Any = None
    camera_poses: CameraRows | None = None
    camera_speed: float | None = None
    camera_start: float | None = None
    camera_end: float | None = None
    between_weights: Any = None
    between_repeats: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are used, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if _is_used(name, value)}

    def drag_paths(self) -> list[DragPath]:
        """Return the path of every dragged object. Raises ValueError for text that is not a path."""
        if not self.drag:
            return []
        return parse_drags(self.drag, self.drag_scale or "", self.drag_rotation or "", self.drag_easing or "linear")

    def drag_masks(self) -> list[Tensor]:
        """Return the mask [1, H, W, C] of every dragged object."""
        return [] if self.drag_mask is None else list(self.drag_mask.split(1))


STEERING = tuple(field.name for field in fields(Steering))
"""The names of all fields of Steering."""


def open_steering(given: Mapping[str, Any]) -> Steering:
    """Return the steering of values by name, with pictures in any form that `as_image` takes.

    end_image may be one or a list, drag_mask a list of one per path. Masks and maps may be [B, H, W], too. Raises what
    `as_image` raises.
    """
    opened = {name: given[name] for name in STEERING if _is_used(name, given.get(name))}
    for name in (name for name in FILES if name in opened):
        value = opened[name]
        if name in NETWORKS:
            continue
        if name in CLIPS or name in TEXTS:
            opened[name] = _opened_poses(value) if name in TEXTS else _opened_clip(value, name)
            continue
        several = list(value) if isinstance(value, (list, tuple)) else [value]
        if name == "end_image":
            opened[name] = [as_image(one) for one in several]
        elif name == "drag_mask" and len(several) > 1:
            opened[name] = _stacked([_as_map(one) for one in several])
        elif len(several) == 1:
            opened[name] = _as_map(several[0])
        else:
            raise ValueError(f"{name} takes 1 picture (got {len(several)}); give one")
    return Steering(**opened)


def check_steering(
    steering: Steering, settings: AnimateSettings, *, name_of: Callable[[str], str] = lambda name: name
) -> None:
    """Raise ValueError for controls that lack what they need, that exclude each other, or that have bad numbers.

    settings: resolved or not. name_of: returns how the user gives a field, such as "--motion-mask FILE".
    """
    given = steering.given
    used = set(given) | {name for name in ("camera", "extend", "windows") if getattr(settings, name)}
    for dependent, needed in NEEDS:
        for name in dependent:
            if name in given and not used & set(needed):
                words = " or ".join(map(name_of, needed))
                raise ValueError(f"{name_of(name)} has no effect without {words}; add that, or leave it out")
    for ones, others in EXCLUDES:
        for one in ones:
            for other in others:
                if one in used and other in used:
                    raise ValueError(f"{name_of(one)} and {name_of(other)} cannot be combined; leave one of them out")
    mode = steering.between_mode
    known = (*BETWEEN_MODES, FINE_TUNED) if "end_image" in given else LOOP_MODES
    if mode is not None and mode not in known:
        raise ValueError(f"{name_of('between_mode')} {mode!r} does not apply here; use one of {', '.join(known)}")
    paths, masks = steering.drag_paths(), steering.drag_masks()
    if len(paths) != len(masks):
        raise ValueError(
            f"{name_of('drag')} has {len(paths)} paths and {name_of('drag_mask')} {len(masks)} masks; give one mask "
            "for each path"
        )
    _check_numbers(steering)
    check_network_numbers(steering)


def steering_metadata(given: Mapping[str, Any]) -> dict[str, object]:
    """Return the entries for steering in a clip's metadata; `given` has pictures as paths, of which names are kept."""
    notes = {}
    for name, value in given.items():
        if name in FILES:
            several = [Path(path).name for path in (value if isinstance(value, list) else [value])]
            value = several if name == "end_image" or len(several) > 1 else several[0]
        notes["end_images" if name == "end_image" else name] = value
    return notes


def gives_motion(given: Mapping[str, Any]) -> bool:
    """Return whether steering by name imposes motion: a dragged object, or a clip."""
    offs = (("drag", "drag_strength", 0), ("control_clip", "control_strength", 0), ("source_clip", "denoise", 1))
    return any(given.get(name) is not None and given.get(number) != off for name, number, off in offs)


@torch.no_grad()
def steered_clip(
    model: VideoModel,
    image: Any,
    settings: AnimateSettings | None = None,
    steering: Steering | None = None,
    *,
    controls: Sequence[Control] = (),
    on_step: OnStep | None = None,
    on_decode: OnDecode | None = None,
) -> Tensor:
    """Return the clip [N, H, W, 3] in 0..1 (float32, CPU) of `image`, with all of `settings` and `steering`.

    The rest is as in `animate`, `inbetween` and `loop`, one of which makes the clip. Raises what `check_steering`
    raises.
    """
    steering = steering or Steering()
    settings = (settings or AnimateSettings()).resolve(model.config, steered=gives_motion(steering.given))
    check_steering(steering, settings)
    own, settings = network_controls(model.config.unet, settings, steering)
    controls = (*own, *controls)
    more = {"on_step": on_step, "on_decode": on_decode, "controls": controls}
    how = _not_none({"mode": steering.between_mode, "strength": steering.between_strength})
    if steering.end_image:
        how |= _not_none({"exact_ends": steering.exact_ends}) | fine_tuned(steering)
        return inbetween(model, [image, *steering.end_image], settings, closed=bool(steering.loop), **how, **more)
    if steering.loop:
        return loop(model, image, settings, **how, **more)
    more["controls"] = (*_controls(model, image, settings, steering), *controls)
    if steering.drag:
        settings = replace(settings, camera="")  # the signal of the drag holds it
    return animate(model, image, settings, depth=steering.depth, foreground=steering.foreground, **more)


def _controls(model: VideoModel, image: Any, settings: AnimateSettings, steering: Steering) -> list[Control]:
    """Return the controls of the motion mask and of the drags, made for the fitted picture."""
    clips = (steering.control_clip, steering.source_clip)
    if steering.motion_mask is None and not steering.drag and all(clip is None for clip in clips):
        return []
    batch = as_batch(image, settings.background)
    if len(batch) > 1:
        raise ValueError(f"masks, drags and clips take 1 picture (got {len(batch)}); make the clips one by one")
    pictures, _ = fit(batch, settings.width, settings.height, settings.fit)
    size = tuple(batch.shape[2:])
    made = []
    if steering.motion_mask is not None:
        made.append(_brush(model.encode_latent, pictures, size, settings, steering))
    if steering.drag:
        made.append(_drag(model.encode_latent, pictures, size, settings, steering))
    if steering.control_clip is not None:
        made.append(_driven(model.encode_latent, pictures, settings, steering))
    if steering.source_clip is not None:
        made.append(_changed(model.encode_latent, model.encode_image, pictures, settings, steering))
    return made


def _brush(encode: Callable, picture: Tensor, size: tuple[int, int], settings: Any, steering: Steering) -> Control:
    moving = 1 - steering.motion_mask if steering.mask_invert else steering.motion_mask
    masks = fit_masks(moving, size, settings.width, settings.height, settings.fit)
    given = {
        "strength": steering.mask_strength,
        "sigma": steering.mask_sigma,
        "feather": steering.mask_feather,
        "still_bucket": steering.still_bucket,
        "moving_bucket": steering.moving_bucket,
        "keep_still": steering.keep_still,
    }
    return motion_brush(encode, picture, masks, **_not_none(given))


def _drag(encode: Callable, picture: Tensor, size: tuple[int, int], settings: Any, steering: Steering) -> Control:
    target = (settings.width, settings.height, settings.fit)
    objects = [
        (fit_map(mask, 0, size, *target, "object mask").clamp(0, 1), path)
        for mask, path in zip(steering.drag_masks(), steering.drag_paths(), strict=True)
    ]
    given, strength = {"background": steering.drag_background}, steering.drag_strength
    if settings.camera and settings.camera_strength > 0:
        shape = (settings.height, settings.width)
        maps = (steering.depth, steering.foreground)
        given["depth"] = picture_depth(0, shape, *maps, size=size, fit_mode=settings.fit)
        given["camera"] = parse_path(settings.camera)
        strength = settings.camera_strength if strength is None else strength
    made = drag_signal(encode, picture, objects, settings.frames, **_not_none(given))
    options = _not_none({"strength": strength}) | mode_settings(USUAL_MODE, steering.drag_sigma or 0)
    return camera_control(made.signal, USUAL_MODE, **options)


def _driven(encode: Callable, picture: Tensor, settings: Any, steering: Steering) -> Control:
    given = _not_none({"mask": steering.control_mask, "amount": steering.control_amount})
    use = steering.control_use or USES[0]
    made = driving_signal(encode, picture, steering.control_clip, settings.frames, use, fit_mode=settings.fit, **given)
    mode = steering.control_mode or USUAL_MODE
    return camera_control(made.signal, mode, **_not_none({"strength": steering.control_strength}))


def _changed(encode: Callable, encode_image: Callable, picture: Tensor, settings: Any, steering: Steering) -> Control:
    made = source_signal(encode, picture, steering.source_clip, settings.frames, fit_mode=settings.fit)
    given = _not_none({"denoise": steering.denoise})
    mode = steering.source_mode or SOURCE_MODES[0]
    if mode == SOURCE_MODES[0]:
        return source_control(made.signal, **given)
    if mode not in SOURCE_MODES:
        raise ValueError(f"source_mode {mode!r} is unknown; use one of {', '.join(SOURCE_MODES)}")
    return inverted_control(encode, encode_image, made.signal, steering.source_clip, **given, fit_mode=settings.fit)


def _check_numbers(steering: Steering) -> None:
    """Make the controls of a blank picture without a model, to find bad numbers before a model is loaded."""
    side = 64
    settings = SimpleNamespace(width=side, height=side, fit="stretch", frames=2, camera="")
    blank = replace(
        steering,
        motion_mask=None if steering.motion_mask is None else torch.ones(1, side, side),
        drag_mask=None if steering.drag_mask is None else torch.ones(len(steering.drag_mask), side, side),
    )

    def encode(image: Tensor) -> Tensor:
        return torch.zeros(len(image), 4, side // 8, side // 8)

    if steering.motion_mask is not None:
        _brush(encode, torch.zeros(1, 3, side, side), (side, side), settings, blank)
    if steering.drag:
        _drag(encode, torch.zeros(1, 3, side, side), (side, side), settings, blank)
    if steering.control_clip is not None:
        _driven(encode, torch.zeros(1, 3, side, side), settings, blank)
    if steering.source_clip is not None:
        shortened = replace(blank, source_clip=steering.source_clip[:2])
        _changed(encode, lambda image: image[:, :1, :1, 0], torch.zeros(1, 3, side, side), settings, shortened)


def _is_used(name: str, value: Any) -> bool:
    if name in ON:
        return value is False  # True is the default
    return value is not None and value is not False and not (isinstance(value, (str, list, tuple)) and not value)


def _not_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _as_map(value: Any) -> Tensor:
    """Return a mask or map as [B, H, W, C]; three axes that end in no number of channels are [B, H, W]."""
    if isinstance(value, (Tensor, ndarray)) and value.ndim == 3 and value.shape[-1] not in (1, 3, 4):
        value = value[..., None]
    return as_image(value)


def _opened_poses(value: Any) -> CameraRows:
    """Return the camera poses of a file, or those given."""
    if not isinstance(value, (str, PathLike)):
        return value
    if not Path(value).is_file():
        raise FileNotFoundError(f"file of camera poses {value} does not exist; check the path")
    with Path(value).open(encoding="utf-8", errors="replace") as file:
        return parse_poses(file.read(MOST_TEXT + 1))


def _opened_clip(value: Any, name: str) -> Tensor:
    """Return a clip [N, H, W, C] in 0..1 of a path, pictures of one size, or what `as_image` takes.

    A mask may be [N, H, W].
    """
    if isinstance(value, (list, tuple)):
        pictures = [as_image(one)[..., :3] for one in value]
        sizes = {tuple(picture.shape[1:3]) for picture in pictures}
        if len(sizes) > 1:
            shown = ", ".join(sorted(f"{width}x{height}" for height, width in sizes))
            raise ValueError(f"the pictures of {name} have several sizes ({shown}); make them of one size")
        return torch.cat(pictures)
    if not isinstance(value, (str, PathLike)):
        return _as_map(value)
    if Path(value).suffix.lower() in PICTURES:
        return as_image(value)
    return read_clip(value)[0]


def _stacked(masks: Sequence[Tensor]) -> Tensor:
    """Return one picture of every mask, averaged over colours: [N, H, W, 1]."""
    sizes = sorted({(mask.shape[2], mask.shape[1]) for mask in masks})
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise ValueError(f"the object masks have several sizes ({shown}); make them of one size")
    return torch.cat([mask[..., :3].mean(-1, keepdim=True) for mask in masks])
