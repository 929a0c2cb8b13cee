"""The settings of `animate`: data with one description per field, the defaults of each variant, and the checks."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from torch import Tensor

from ..controls.camera.moves import MOVES, parse_path
from ..controls.signal import SIGNAL_MODES
from ..model.decoding import parse_plan
from ..networks.config import SVDConfig
from ..pictures import check_size
from ..pictures.fitting import FitMode
from ..sampling.controls import Control
from ..sampling.guidance import GUIDANCE_SHAPES, Guidance, guidance_curve
from ..sampling.limits import DEPTH
from ..sampling.noise import check_seed
from ..sampling.reuse import ReuseFeatures
from ..sampling.schedules import SCHEDULES, SIGMA_MAX, SIGMA_MIN, custom_sigmas, make_sigmas
from ..sampling.solvers import SOLVERS
from .clip_size import OWN, ClipSize, Setting, described, setting
from .control_settings import (
    DEFAULTS,
    ControlSettings,
    camera_options,
    check_needs,
    extension_of,
    guidance_over,
    own_controls,
    parse_numbers,
    windows_of,
)
from .defaults import ORBIT_VARIANTS, VIDEO_READERS, clip_defaults

FIT_MODES: tuple[str, ...] = get_args(FitMode)

BUCKET, STEERED_BUCKET = 127, 10
"""Motion buckets of a clip without one: usually, and where a signal gives the motion, which low buckets follow best."""

_LONGEST = {"nano": 14}  # frames in training, where they are more than the native number


@dataclass(frozen=True)
class AnimateSettings(ControlSettings, ClipSize):
    """How to animate a picture. None means the default of the loaded model, which `resolve` fills in.

    `SETTINGS` describes every field.
    """

    motion_bucket: float | None = setting(
        None,
        "amount of motion, 1 to 255",
        default_text=f"{BUCKET}; {STEERED_BUCKET} with a camera path or a dragged object",
        metavar="N",
        low=0,
        advice="use 1 to 255, such as 127",
    )
    # The network gets fps - 1.
    fps: float = setting(
        7, "frames per second that the motion is meant for, 6 to 30", low=1, advice="use 6 to 30, such as 7"
    )
    # Standard deviation in -1..1.
    augmentation: float = setting(
        0.02,
        "noise on the picture, 0 to 0.1; more lets the clip leave the picture",
        metavar="SIGMA",
        low=0,
        advice="use 0 to 0.1, such as 0.02",
    )
    # If only one end of guidance is given, the default of the other end is moved to keep min <= max.
    min_guidance: float | None = setting(
        None,
        "guidance of the first frame, 1 to 3",
        default_text=OWN,
        metavar="SCALE",
        low=0,
        advice="use 1 for no guidance",
    )
    max_guidance: float | None = setting(
        None,
        "guidance of the last frame, 1 to 4",
        default_text=OWN,
        metavar="SCALE",
        low=0,
        advice="use 1 for no guidance",
    )
    guidance_shape: str = setting("linear", "guidance curve over the frames", choices=tuple(GUIDANCE_SHAPES))
    schedule: str | None = setting(
        None,
        "schedule of noise levels",
        default_text="karras; lcm with AnimateLCM",
        choices=tuple(SCHEDULES),
    )
    sigma_min: float = setting(SIGMA_MIN, "lowest noise level", metavar="SIGMA")
    sigma_max: float = setting(SIGMA_MAX, "highest noise level", default_text="700", metavar="SIGMA")
    solver: str | None = setting(
        None,
        "solver of the sampling steps",
        default_text="euler; lcm with the schedule lcm",
        choices=tuple(SOLVERS),
    )
    # Clip b of a batch uses seed + b.
    seed: int = setting(23, "seed of the noise; the same seed gives the same clip")
    fit: str = setting(
        "crop",
        "how the picture fits the clip's size; the borders of pad are cropped off again",
        choices=FIT_MODES,
    )
    background: str | tuple[float, float, float] = setting(
        "white", "colour behind transparent pixels: a name or #rrggbb", metavar="COLOUR"
    )
    decode: str | int = setting(
        "exact", "exact, or decode N frames at a time as the official script does", metavar="exact|N"
    )
    camera: str = setting(
        "",
        f'camera path in words, such as "pan right 0.15, zoom in 1.2 then hold 4"; moves: {", ".join(MOVES)}',
        metavar="PATH",
    )
    camera_mode: str = setting("partial re-noise", "how the camera path is imposed", choices=tuple(SIGNAL_MODES))
    camera_strength: float = setting(
        1.0,
        "how closely the clip follows the camera path: 0 is off, 1 follows it, 2 is nearly a slide show",
        default_text="1",
        metavar="N",
        low=0,
        advice="use 0.5 to 2, such as 1",
    )
    windows: int = setting(
        0,
        "denoise more frames than the model's own in windows of N frames, best its own number",
        default_text="0, all at once",
        metavar="N",
        low=0,
        advice="use 14 or 25, or 0 for no windows",
    )
    window_overlap: int | None = setting(
        None, "frames that neighbouring windows share", default_text="a third of the window", metavar="N"
    )
    extend: int = setting(
        0,
        "frames to add at the end of the clip",
        metavar="N",
        low=0,
        high=100_000,
        advice="use 25, or 0 for none",
    )
    extend_overlap: int = setting(4, "last frames of the clip that added frames continue from", metavar="N")
    reuse: int = setting(
        1,
        "run the whole UNet at every Nth step only: 2 takes about 0.6 of the time, 3 half of it; details drift",
        default_text="1, off",
        metavar="N",
    )
    reuse_depth: int = setting(
        DEPTH,
        "outermost pairs of UNet blocks that run in every step: more is closer to the exact clip and slower",
        metavar="N",
    )
    skip_guidance: float = setting(
        0.0,
        "push frames away from what the network makes without attention: sharper at low guidance, one more pass in "
        "about a third of the steps. 0 is off, 1 usual, above 2 edges ring",
        default_text="0",
        metavar="SCALE",
        low=0,
        advice="use 0.5 to 1.5, or 0 for none",
    )
    soften_above: float = setting(
        0.0,
        "blur the conditioning picture above this noise level, given for 1024x576, for more motion. 0 is off, 40 to "
        "100 usual",
        default_text="0",
        metavar="SIGMA",
        low=0,
        advice="use 40 to 100, or 0 for none",
    )
    reuse_sigma_low: float = setting(0.0, "no reuse below this noise level", default_text="0", metavar="SIGMA")
    # From 700 on there is no upper limit.
    reuse_sigma_high: float = setting(
        SIGMA_MAX, "no reuse above this noise level", default_text="700, no limit", metavar="SIGMA"
    )

    def resolve(self, config: SVDConfig, *, steered: bool = False) -> "AnimateSettings":
        """Return these settings with every None replaced by the model's default; ValueError where one is illegal.

        steered: whether a signal besides the camera path gives the motion, such as that of a dragged object.
        """
        refuse_orbital(config)
        defaults = {f.name: f.default for f in fields(self)}
        steered = steered or bool(self.camera and self.camera_strength > 0)
        defaults["motion_bucket"] = STEERED_BUCKET if steered else BUCKET
        defaults |= clip_defaults(config, self.schedule)
        # A window of one frame has no frame to share.
        defaults["window_overlap"] = max(min(1, self.windows - 1), self.windows // 3)
        if self.max_guidance is not None:
            defaults["min_guidance"] = min(defaults["min_guidance"], self.max_guidance)
        if self.min_guidance is not None:
            defaults["max_guidance"] = max(defaults["max_guidance"], self.min_guidance)
        resolved = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        _check(resolved, config)
        return resolved


def refuse_orbital(config: SVDConfig) -> None:
    """Raise ValueError for models that make no usual clips: SV3D makes orbits, the video readers read depth."""
    if config.variant in VIDEO_READERS:
        raise ValueError(
            f"{config.variant} reads videos and makes no clips; use Video to Depth or Normals (the command depth), or "
            "load svd or svd_xt"
        )
    if config.variant in ORBIT_VARIANTS:
        raise ValueError(
            f"{config.variant} only makes orbits, without camera controls, loops or windows; use Orbit Object (the "
            "command orbit), or load svd or svd_xt"
        )


SETTINGS: dict[str, Setting] = {one.name: one for one in described(AnimateSettings)}
"""The description of every field of AnimateSettings, by name."""


def settings_metadata(settings: AnimateSettings) -> dict[str, Any]:
    """Return what a clip keeps of its settings: all of them, but finer controls only where they are not as usual."""
    return {name: value for name, value in vars(settings).items() if name not in DEFAULTS or value != DEFAULTS[name]}


def sigmas_of(settings: AnimateSettings) -> Tensor:
    """Return the sigma list [steps + 1] of resolved `settings`."""
    if settings.sigmas:
        return custom_sigmas(parse_numbers(settings.sigmas, "sigmas"))
    return make_sigmas(settings.schedule, settings.steps, sigma_min=settings.sigma_min, sigma_max=settings.sigma_max)


def guidance_of(settings: AnimateSettings, frames: int | None = None) -> Tensor | Guidance:
    """Return the guidance scales [frames] of resolved `settings`, with the noise levels where they apply, if not all.

    frames: None takes the settings' own number.
    """
    frames = settings.frames if frames is None else frames
    scales = guidance_curve(settings.guidance_shape, settings.min_guidance, settings.max_guidance, frames)
    return guidance_over(settings, scales, frames)


def window_controls(settings: AnimateSettings) -> tuple[Control, ...]:
    """Return the control that samples resolved `settings` in windows; none if they ask for no windows."""
    return (windows_of(settings),) if settings.windows else ()


def reuse_controls(settings: AnimateSettings) -> tuple[Control, ...]:
    """Return the control that reuses features; none if `settings` ask for no reuse."""
    control = _reuse(settings)
    return (control,) if control.active else ()


def _reuse(settings: AnimateSettings) -> ReuseFeatures:
    high = math.inf if settings.reuse_sigma_high >= SIGMA_MAX else settings.reuse_sigma_high
    return ReuseFeatures(settings.reuse, settings.reuse_depth, settings.reuse_sigma_low, high)


def _check(settings: AnimateSettings, config: SVDConfig) -> None:
    """Raise ValueError for illegal values of resolved `settings`, before anything is computed."""
    # The upper end of guidance comes first: the lower end yields to it.
    for name in sorted(SETTINGS, key=lambda name: name != "max_guidance"):
        SETTINGS[name].check(getattr(settings, name))
    check_size(settings.width, settings.height)
    parse_plan(settings.decode)
    check_seed(settings.seed)
    sigmas_of(settings)
    _reuse(settings)
    if settings.camera:
        parse_path(settings.camera).poses(settings.frames)
    check_needs(settings)
    guidance_of(settings)
    own_controls(settings)
    camera_options(settings)
    for windows in window_controls(settings):
        windows.starts(settings.frames)
    if settings.extend and extension_of(settings, config.frames).overlap > settings.frames:
        raise ValueError(
            f"extend_overlap must be at most the clip's {settings.frames} frames (got {settings.extend_overlap}); use "
            f"{min(4, settings.frames)}"
        )


def off_distribution(settings: AnimateSettings, config: SVDConfig) -> dict[str, str]:
    """Return which resolved `settings` the model was not trained for: name -> one sentence. Legal, but worse."""
    advice = {}
    if settings.motion_bucket > 255:
        advice["motion_bucket"] = f"motion bucket {settings.motion_bucket:g} is above 255, the highest in training"
    # The advised range, 5..30, is that of the number the network gets (spec section 1.2).
    if not 6 <= settings.fps <= 31:
        advice["fps"] = f"{settings.fps:g} fps is outside 6 to 31, the range of the official script"
    if config.variant == "svd_xt_1_1" and (settings.fps, settings.motion_bucket) != (7, 127):
        advice["1.1"] = "SVD-XT 1.1 was tuned at 7 fps and motion bucket 127 only; for other values use SVD-XT"
    if settings.augmentation > 0.3:
        advice["augmentation"] = f"augmentation {settings.augmentation:g} is far above training, about 0.05"
    longest = max(config.frames, _LONGEST.get(config.variant, 0))
    if settings.frames > longest and not settings.windows:
        advice["frames"] = f"{settings.frames} frames are more than the {longest} the model was trained on"
    native = config.width * config.height
    if not native / 2 <= settings.width * settings.height <= native * 2:
        advice["size"] = (
            f"{settings.width}x{settings.height} is far from the {config.width}x{config.height} pixels of training; "
            "expect still or broken pictures"
        )
    return advice
