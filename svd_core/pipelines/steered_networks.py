"""Controls that networks make, by the names of `Steering`: ControlNets, camera weights, fine-tuned backward motion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..controls.adapters import AdapterControl, check_range
from ..controls.camera.moves import parse_path
from ..controls.camera.pose_files import cropped_intrinsics
from ..controls.camera.weights import camera_weights_adapter, check_speed
from ..controls.controlnet import NUMBERS, SUMS, strengths_over
from ..controls.lines import check_detail, line_drawing
from ..networks.config import UNetConfig
from ..sampling.controls import Control
from .between import FINE_TUNED
from .controlled import control_by_pictures
from .settings import AnimateSettings

CONTROLNET_OPTIONS = (
    "images", "lines", "detail", "strength", "start", "end", "mask", "sums", "numbers", "conditional",
)  # fmt: skip


def network_controls(config: UNetConfig, settings: AnimateSettings, steering: Any) -> tuple[list[Control], Any]:
    """Return the controls of a steering's loaded ControlNet and camera weights, and the settings without their camera.

    settings: resolved. A camera path that the weights follow is taken out of them, because nothing else may follow it.
    """
    made: list[Control] = []
    if steering.camera_weights is not None:
        made.append(_camera_control(settings, steering))
        settings = replace(settings, camera="")
    if steering.controlnet is not None:
        made.append(_controlnet_control(config, settings, steering))
    return made, settings


def _camera_control(settings: AnimateSettings, steering: Any) -> AdapterControl:
    size = (settings.width, settings.height)
    rows = steering.camera_poses
    camera = parse_path(settings.camera) if rows is None else cropped_intrinsics(rows, *size)
    speed = 1.0 if steering.camera_speed is None else steering.camera_speed
    adapter = camera_weights_adapter(
        steering.camera_weights, camera, settings.frames, *size, strength=settings.camera_strength, speed=speed
    )
    return AdapterControl(adapter, *_camera_range(steering), enabled=settings.camera_strength > 0)


def _camera_range(steering: Any) -> tuple[float, float]:
    """Return the shares of the sampling between which camera weights act."""
    start, end = steering.camera_start, steering.camera_end
    return (0.0 if start is None else start, 1.0 if end is None else end)


def _controlnet_control(config: UNetConfig, settings: AnimateSettings, steering: Any) -> Control:
    loaded, pictures, mask = steering.controlnet, steering.controlnet_images, steering.controlnet_mask
    if steering.controlnet_lines:
        detail = 1.0 if steering.controlnet_detail is None else steering.controlnet_detail
        pictures = line_drawing(pictures, detail=detail)
    numbers = steering.controlnet_numbers or NUMBERS[0]
    given = {name: getattr(steering, f"controlnet_{name}") for name in ("start", "end", "sums")}
    return control_by_pictures(
        loaded.network,
        pictures,
        settings,
        config,
        strength=_points(steering.controlnet_strength),
        mask=None if mask is None else mask[..., :3].mean(-1),
        numbers=loaded.numbers if numbers == NUMBERS[0] else numbers,
        both=not steering.controlnet_conditional,
        **{name: value for name, value in given.items() if value is not None},
    )


def fine_tuned(steering: Any) -> Mapping[str, Any]:
    """Return the arguments of `inbetween` for a steering with backward motion weights, none without."""
    if steering.between_weights is None:
        return {}
    return {"mode": FINE_TUNED, "weights": steering.between_weights, "repeats": steering.between_repeats or 0}


def check_network_numbers(steering: Any) -> None:
    """Raise ValueError for numbers and choices that no network takes, before one is loaded."""
    if steering.controlnet is not None:
        strengths_over(_points(steering.controlnet_strength), 2)
        ends = (steering.controlnet_start, steering.controlnet_end)
        check_range(*(default if end is None else end for end, default in zip(ends, (0.0, 1.0), strict=True)))
        for name, known in (("sums", SUMS), ("numbers", NUMBERS)):
            value = getattr(steering, f"controlnet_{name}")
            if value is not None and value not in known:
                raise ValueError(f"controlnet_{name} {value!r} is unknown; use one of {', '.join(known)}")
    if steering.camera_speed is not None:
        check_speed(steering.camera_speed)
    if steering.camera_weights is not None:
        check_range(*_camera_range(steering))
    if steering.controlnet_detail is not None:
        check_detail(steering.controlnet_detail)
    if steering.between_weights is not None and steering.between_mode not in (None, FINE_TUNED):
        raise ValueError(
            f"between_weights work in the mode {FINE_TUNED} only (got {steering.between_mode!r}); leave the mode out"
        )
    if steering.between_mode == FINE_TUNED and steering.between_weights is None:
        raise ValueError(f"the mode {FINE_TUNED} needs backward motion weights; give between_weights, or another mode")


def _points(strength: Sequence[float] | float | str | None) -> Sequence[float] | float:
    """Return strengths as numbers; text separates several by commas or spaces."""
    if strength is None:
        return 1.0
    if not isinstance(strength, str):
        return strength
    try:
        return [float(word) for word in strength.strip("[] ").replace(",", " ").split()] or 1.0
    except ValueError:
        raise ValueError(f"controlnet_strength must be numbers (got {strength!r}); write 1, or 0, 1, 1") from None
