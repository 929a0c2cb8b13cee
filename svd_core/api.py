"""The public names of `svd_core`, and `animate`, which takes everything by name."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any

from torch import Tensor

from .checkpoints import load_model
from .checkpoints.networks_by_name import check_networks, load_networks
from .condition import Condition
from .lora import Lora, apply_loras, load_lora
from .lora.read import split_lora_option
from .model.model import SVDModel, VideoModel
from .pictures.reading import Picture
from .pipelines.batch import OnDecode, OnStep
from .pipelines.clip import AnimateSettings
from .pipelines.steered import NETWORKS, STEERING, open_steering, steered_clip
from .sampling.controls import Control
from .sampling.guidance import linear_guidance, triangle_guidance
from .sampling.sampler import sample
from .sampling.schedules import karras_sigmas

__all__ = [
    "AnimateSettings",
    "Condition",
    "SVDModel",
    "animate",
    "apply_loras",
    "karras_sigmas",
    "linear_guidance",
    "load_lora",
    "load_model",
    "sample",
    "triangle_guidance",
]

ALIASES = {
    "motion_bucket_id": "motion_bucket",
    "noise_aug_strength": "augmentation",
    "augmentation_level": "augmentation",
    "num_frames": "frames",
    "video_frames": "frames",
    "num_inference_steps": "steps",
    "min_guidance_scale": "min_guidance",
    "max_guidance_scale": "max_guidance",
    "min_cfg": "min_guidance",
    "cfg": "max_guidance",
    "scheduler": "schedule",
    "sampler_name": "solver",
}
"""Names that diffusers, ComfyUI and the official scripts use for fields of AnimateSettings."""

LoraInput = str | PathLike | Lora | tuple[Any, float] | tuple[Any, float, float]


def animate(
    model: VideoModel | str | PathLike,
    image: Picture | Sequence[Picture],
    settings: AnimateSettings | None = None,
    *,
    end_image: Any = None,
    loop: bool = False,
    motion_mask: Any = None,
    drag: str | None = None,
    drag_mask: Any = None,
    camera: str | None = None,
    depth: Any = None,
    foreground: Any = None,
    loras: LoraInput | Sequence[LoraInput] = (),
    control: Control | Sequence[Control] = (),
    controls: Sequence[Control] = (),
    on_step: OnStep | None = None,
    on_decode: OnDecode | None = None,
    **more: Any,
) -> Tensor:
    """Return the clip [T, H, W, 3] in 0..1 (float32, CPU) of `image`, made in the official order (spec section 2).

    model: from `load_model`, or what that loads: a file, a folder, or "nano".
    image: a path, a PIL image, [H, W, C] or [B, H, W, C] in 0..1 or as uint8, [B, 3, H, W] in -1..1, or a list of
    those. B pictures make B clips, [B * T, H, W, 3], one after the other, clip b drawn with seed + b; none depends on
    the others. With fit "pad" the borders are cropped off again.
    settings: where there are many clips of the same; any field may also be given by its name, such as seed=7, or by the
    name of ALIASES that other programs use.
    end_image, loop, motion_mask, drag, drag_mask, depth, foreground: see `pipelines.steered.Steering`, whose other
    fields may be given by name too, such as controlnet and controlnet_images, or camera_weights. Pictures are given as
    `image` is; several end pictures or object masks as a list. Networks are given as paths, or loaded.
    camera: a path in words, such as "pan right 0.15, zoom in 1.2".
    loras: files, or pairs (file, strength). Use `apply_loras` once for many clips.
    control, controls: further controls of sampling, which come last.
    on_step, on_decode: get a Step, or (done, total), counted over the whole batch; the steps of `extend` are counted
    separately. An exception raised in them stops the run.

    Raises TypeError for an unknown name, and ValueError, FileNotFoundError or CheckpointError, each with one sentence
    on what is wrong and what to do.
    """
    given = {"end_image": end_image, "loop": loop, "motion_mask": motion_mask, "drag": drag, "drag_mask": drag_mask}
    given |= {"depth": depth, "foreground": foreground}
    if camera is not None:
        more["camera"] = camera
    changes, rest = _settings_by_name(more)
    given = given | rest
    check_networks(given)
    steering = open_steering(given)
    settings = replace(settings or AnimateSettings(), **changes)
    if not isinstance(model, VideoModel):
        model = load_model(model)
    steering = replace(steering, **load_networks({name: given[name] for name in NETWORKS if name in given}, model))
    if chosen := _loras(loras):
        model = apply_loras(model, chosen)
    used = (*((control,) if isinstance(control, Control) else control), *controls)
    return steered_clip(model, image, settings, steering, controls=used, on_step=on_step, on_decode=on_decode)


def _settings_by_name(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of AnimateSettings among `given`, and the rest, which belongs to Steering."""
    known = {field.name for field in fields(AnimateSettings)}
    settings: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in given.items():
        field = ALIASES.get(name, name)
        place = settings if field in known else rest
        if field not in known and field not in STEERING:
            raise TypeError(f"animate has no option {name!r}; see AnimateSettings and Steering for their names")
        if field in place:
            raise TypeError(f"animate got {name!r} and {field!r}, which are the same; give one of them")
        place[field] = value
    return settings, rest


def _loras(given: LoraInput | Sequence[LoraInput]) -> list[tuple[Lora, float, float]]:
    """Return LoRAs with their strengths for spatial and temporal layers, of one or several in any form."""
    is_pair = isinstance(given, tuple) and len(given) > 1 and isinstance(given[1], (int, float))
    several = [given] if is_pair or isinstance(given, (str, PathLike, Lora)) else given
    found = []
    for one in several:
        if isinstance(one, str):
            one = split_lora_option(one)
        file, *strengths = one if isinstance(one, tuple) else (one, 1.0)
        spatial, temporal = (strengths[0], strengths[-1])
        found.append((file if isinstance(file, Lora) else load_lora(file), float(spatial), float(temporal)))
    return found
