"""The settings of `animate` for its finer controls: steadiness, amount of motion, windows, extensions, the camera.

Their names are those of the nodes' inputs, with the name of the control before them where it would be lost. All are
off, or as in the nodes, by default.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ..controls.amount import BLUR, BucketGuidance, LowPassStart, MotionCurves, SoftenedCondition, parse_points
from ..controls.camera.control import mode_settings
from ..controls.camera.depth import FAR_TO_NEAR
from ..controls.extend import Extension
from ..controls.refine import MOST_ROUNDS
from ..controls.skip_guidance import SkipGuidance
from ..controls.steady import MAX_REGIONS, ColourAnchor, ColourMatch, FirstFrame, SteadyGuidance
from ..controls.windows import BORDERS, ENDS, NOISES, WEIGHTS, Windows
from ..files import printable
from ..pictures.colours import METHODS
from ..sampling.controls import Control
from ..sampling.guidance import Guidance, custom_guidance
from ..sampling.schedules import SIGMA_MAX
from .clip_size import setting

COMPARED = ("no picture", "the start picture")
"""What the unconditional pass of `compare_bucket` sees."""

NEEDS = (
    (("first_frame_sigma",), ("first_frame",)),
    (("anchor_sigma", "anchor_regions"), ("colour_anchor",)),
    (("blur",), ("start_sigma",)),
    (("compare_with",), ("compare_bucket",)),
    (("window_overlap", "window_rolling", "window_noise", "window_ends", "window_weights", "window_borders"),
     ("windows",)),
    (("extend_overlap", "extend_anchor", "extend_colour_lock", "extend_detail", "extend_repeats",
      "extend_chunk_frames"), ("extend",)),
    (("camera_mode", "camera_far_to_near", "camera_sigma", "camera_repeats", "camera_keep", "camera_last_weight",
      "camera_refine"), ("camera",)),
    (("match_method", "match_ramp", "match_smoothing"), ("match_colours",)),
)  # fmt: skip
"""Settings that have no effect unless one of others is given."""


def _share(default: float, text: str, advice: str) -> Any:
    return setting(default, text, default_text=f"{default:g}", metavar="N", low=0, high=1, advice=advice)


def _sigma(default: float, text: str) -> Any:
    return setting(default, text, default_text=f"{default:g}", metavar="SIGMA", low=0, advice="use 0 to 700")


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """The finer controls of a clip; `pipelines.settings.SETTINGS` describes every field."""

    rescale: float = _share(
        0.0, "return the contrast that guidance adds to its unguided value by this share, 0.3 to 0.7", "use 0.5"
    )
    keep_parallel: float = _share(
        1.0, "share that is kept of the part of guidance that only strengthens the picture (APG). 1 is off", "use 0.3"
    )
    guidance_limit: float = setting(
        0.0,
        "limit of what guidance adds, as a root mean square per latent value (APG). 0 is off, 0.06 usual",
        default_text="0",
        metavar="N",
        low=0,
        advice="use 0.06, or 0 for none",
    )
    momentum: float = setting(
        0.0,
        "share of earlier guidance that is added in every step (APG); -0.5 damps what repeats. 0 is off",
        default_text="0",
        metavar="N",
    )
    first_frame: float = _share(0.0, "hold the first frame at the picture by this share. 0 is off", "use 0.5 to 1")
    first_frame_sigma: float = _sigma(1.0, "noise level above which the first frame is held by its full share")
    colour_anchor: float = _share(
        0.0, "pull the colours of later frames towards the first one, the last frame by this share. 0 is off", "use 0.2"
    )
    anchor_sigma: float = _sigma(2.0, "noise level below which colours are anchored")
    anchor_regions: int = setting(
        1,
        "regions per side whose colours are anchored",
        metavar="N",
        low=1,
        high=MAX_REGIONS,
        advice="use 1 to 8",
    )
    start_sigma: float = _sigma(
        0.0, "start at this noise level from the blurred picture, 50 to 300, for more motion. 0 is off"
    )
    blur: float = setting(
        BLUR,
        "blur of the picture at the start, in latent cells at 1024x576",
        default_text=f"{BLUR:g}",
        metavar="N",
        low=0,
        advice="use 8",
    )
    bucket_curve: str = setting(
        "",
        'motion bucket over the clip, as positions and values, such as "0:60, 0.5:180, 1:127"',
        metavar="CURVE",
    )
    fps_curve: str = setting("", 'frame rate of the motion over the clip, such as "0:7, 1:14"', metavar="CURVE")
    compare_bucket: float | None = setting(
        None,
        "motion bucket of the unconditional pass, from which guidance pushes away: below that of the clip is livelier",
        default_text="that of the clip",
        metavar="N",
        low=0,
        advice="use 0 to 255",
    )
    compare_with: str = setting(
        COMPARED[0], "what the unconditional pass sees while buckets are compared", choices=COMPARED
    )
    churn: float = setting(
        0.0,
        "fresh noise in every step of euler and heun, 0 to 10",
        default_text="0",
        metavar="N",
        low=0,
        high=100,
        advice="use 0 to 10",
    )
    guidance_points: str = setting(
        "", 'guidance from the first to the last frame, such as "1, 2.5, 1", instead of a shape', metavar="N,..."
    )
    guidance_sigma_high: float = setting(
        SIGMA_MAX,
        "no guidance above this noise level; 100 halves the time of the first 7 of 25 steps",
        default_text="700, no limit",
        metavar="SIGMA",
        low=0,
        advice="use 100 to 700",
    )
    guidance_sigma_low: float = _sigma(0.0, "no guidance below this noise level")
    sigmas: str = setting(
        "", 'noise levels from first to last, such as "700, 100, 10, 1, 0", instead of a schedule', metavar="N,..."
    )
    window_rolling: float = _sigma(
        0.0, "noise level below which a window continues from the frame it starts with, 5 to 20. 0 is off"
    )
    window_noise: str = setting(NOISES[1], "noise of the frames after the first window", choices=NOISES)
    window_ends: str = setting(ENDS[0], "whether the last window continues to the first", choices=ENDS)
    window_weights: str = setting("pyramid", "how windows are blended", choices=tuple(WEIGHTS))
    window_borders: str = setting(BORDERS[0], "whether window borders move with every step", choices=BORDERS)
    extend_anchor: float = _share(
        Extension.anchor, "weight of the first picture in the conditions of added frames", "use 0.5"
    )
    extend_colour_lock: float = _share(
        Extension.colour_lock, "how far added frames keep the colours and contrast of the clip", "use 0.9"
    )
    extend_detail: float = _share(Extension.detail, "how far added frames keep the detail of the clip", "use 0.5")
    extend_repeats: int = setting(
        1,
        "evaluations of each step in which the overlap is held",
        metavar="N",
        low=1,
        high=10,
        advice="use 1 to 3",
    )
    extend_chunk_frames: int = setting(
        0,
        "frames that are added in one run, with the overlap",
        default_text="0, the model's own number",
        metavar="N",
        low=0,
        advice="use 14 or 25, or 0 for the model's own",
    )
    camera_far_to_near: float = setting(
        FAR_TO_NEAR,
        "how many times farther away the farthest point of a depth map is than the nearest, 2 to 10",
        default_text=f"{FAR_TO_NEAR:g}",
        metavar="N",
        low=1.1,
        high=100,
        advice="use 2 to 10",
    )
    camera_sigma: float = _sigma(
        0.0, "noise level down to which the camera path is imposed; lower is stricter. 0 is the mode's own"
    )
    camera_repeats: int = setting(
        1,
        "evaluations of each guided step with replace estimate; 3 hides seams and takes three times as long",
        metavar="N",
        low=1,
        high=10,
        advice="use 1 to 3",
    )
    camera_keep: float = setting(
        1.0,
        "share of the picture that replace estimate imposes, best-fitting parts first",
        default_text="1",
        metavar="N",
        low=0.05,
        high=1,
        advice="use 0.6 to 1",
    )
    camera_last_weight: float = setting(
        1.0,
        "weight of the camera path in the last frame with replace estimate",
        default_text="1",
        metavar="N",
        low=0.05,
        high=1,
        advice="use 0.6 to 1",
    )
    camera_refine: int = setting(
        0,
        "rounds in which the model draws what comes into view again in the middle steps with replace estimate; 2 make "
        "holes and seams cleaner and take up to twice as long. 0 is off",
        default_text="0",
        metavar="N",
        low=0,
        high=MOST_ROUNDS,
        advice="use 2, or 0 for none",
    )
    match_colours: float = _share(
        0.0, "move the colours of finished frames to those of the first one by this share. 0 is off", "use 0.5"
    )
    match_method: str = setting(METHODS[0], "how colours are matched", choices=METHODS)
    match_ramp: int = setting(
        0,
        "frames over which the matching grows from 0",
        metavar="N",
        low=0,
        advice="use 0 to 4",
    )
    match_smoothing: float = setting(
        0.0,
        "how much the matching is averaged over neighbouring frames",
        default_text="0",
        metavar="N",
        low=0,
        high=0.99,
        advice="use 0 to 0.9",
    )


DEFAULTS = {one.name: one.default for one in fields(ControlSettings)}
"""The default of every field of ControlSettings."""


def check_needs(settings: Any) -> None:
    """Raise ValueError for a control's setting that has no effect, because the control itself is off."""
    for names, (main,) in NEEDS:
        for name in (name for name in names if name in DEFAULTS and not getattr(settings, main)):
            if getattr(settings, name) != DEFAULTS[name]:
                raise ValueError(f"{name} has no effect without {main}; add that, or leave it out")


def own_controls(settings: Any) -> tuple[Control, ...]:
    """Return the controls of the amount of motion, of guidance and of steadiness that resolved settings ask for."""
    curves = (parse_points(settings.bucket_curve, "bucket_curve"), parse_points(settings.fps_curve, "fps_curve"))
    asked = (
        LowPassStart(settings.start_sigma, settings.blur),
        MotionCurves(*curves),
        BucketGuidance(settings.compare_bucket, settings.compare_with == COMPARED[1]),
        SoftenedCondition(settings.soften_above),
        SkipGuidance(settings.skip_guidance),
        SteadyGuidance(settings.rescale, settings.keep_parallel, settings.guidance_limit, settings.momentum),
        FirstFrame(settings.first_frame, settings.first_frame_sigma),
        ColourAnchor(settings.colour_anchor, settings.anchor_sigma, settings.anchor_regions),
        ColourMatch(settings.match_colours, settings.match_method, settings.match_ramp, settings.match_smoothing),
    )
    return tuple(control for control in asked if control.active)


def windows_of(settings: Any) -> Windows:
    """Return the windows of settings that ask for some."""
    return Windows(
        settings.windows,
        settings.window_overlap,
        weights=settings.window_weights,
        shift=settings.window_borders == BORDERS[0],
        closed=settings.window_ends == ENDS[1],
        rolling=settings.window_rolling,
        freenoise=settings.window_noise == NOISES[0],
    )


def extension_of(settings: Any, frames: int) -> Extension:
    """Return the extension of settings, in chunks of `frames` frames, the model's own, unless they give a number."""
    return Extension(
        settings.extend_chunk_frames or frames,
        settings.extend_overlap,
        anchor=settings.extend_anchor,
        colour_lock=settings.extend_colour_lock,
        repeats=settings.extend_repeats,
        detail=settings.extend_detail,
    )


def camera_options(settings: Any) -> dict[str, float]:
    """Return the settings of the mode in which a camera path is imposed."""
    names = ("sigma", "repeats", "keep", "last_weight", "refine")
    return mode_settings(settings.camera_mode, **{name: getattr(settings, f"camera_{name}") for name in names})


def guidance_over(settings: Any, scales: Tensor, frames: int) -> Tensor | Guidance:
    """Return guidance by the points and the noise levels of settings; `scales` where they give no points."""
    points = parse_numbers(settings.guidance_points, "guidance_points") if settings.guidance_points else ()
    scales = custom_guidance(points, frames) if points else scales
    high = math.inf if settings.guidance_sigma_high >= SIGMA_MAX else settings.guidance_sigma_high
    if settings.guidance_sigma_low == 0 and high == math.inf:
        return scales
    return Guidance(scales, settings.guidance_sigma_low, high)


def parse_numbers(text: str, what: str) -> tuple[float, ...]:
    """Return numbers separated by commas or spaces; raise ValueError, naming `what`, for anything else."""
    words: Sequence[str] = text.replace(",", " ").split()
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if not numbers:
        raise ValueError(f"{what} must be numbers separated by commas, such as 1, 2.5, 1 (got {printable(text)!r})")
    return numbers
