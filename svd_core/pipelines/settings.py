"""What a clip is asked to be: the settings of `animate`, the defaults of each variant, and what it was trained for."""

import math
from dataclasses import dataclass, fields, replace

from torch import Tensor

from ..controls.camera.moves import parse_path
from ..controls.extend import Extension
from ..controls.signal import SIGNAL_MODES
from ..controls.windows import Windows
from ..model.decoding import parse_plan
from ..networks.config import SVDConfig
from ..pictures import check_size
from ..sampling.controls import Control
from ..sampling.guidance import GUIDANCE_SHAPES, guidance_curve
from ..sampling.noise import check_seed
from ..sampling.reuse import DEPTH, ReuseFeatures
from ..sampling.schedules import SCHEDULES, SIGMA_MAX, SIGMA_MIN, make_sigmas
from ..sampling.solvers import SOLVERS

# Steps and linear guidance of the official scripts (spec section 1.2); a custom model goes by its number of frames.
_SVD = {"steps": 25, "min_guidance": 1.0, "max_guidance": 2.5}
_SVD_XT = {"steps": 30, "min_guidance": 1.5, "max_guidance": 3.0}
# Schedules that were made for few steps bring their own (spec sections 8.2 and 11.2).
_SCHEDULES = {
    "align_your_steps": {"steps": 10},
    "lcm": {"steps": 4, "solver": "lcm", "min_guidance": 1.0, "max_guidance": 1.2},
}
_VARIANTS = {
    "svd": _SVD,
    "svd_xt": _SVD_XT,
    "svd_xt_1_1": _SVD_XT,
    "animatelcm": {"schedule": "lcm", **_SCHEDULES["lcm"]},
    "nano": {"steps": 20, "min_guidance": 1.0, "max_guidance": 1.0},
}
_MOST = {"frames": 100_000, "extend": 100_000, "steps": 10_000, "width": 16_384, "height": 16_384}
_LONGEST = {"nano": 14}  # frames in training, where they are more than the usual number


@dataclass(frozen=True)
class AnimateSettings:
    """How to animate a picture. None means the default of the loaded model, which `resolve` fills in.

    width, height: pixels of the clip, multiples of 8. frames, steps: counts. motion_bucket: amount of motion, 0..255 in
    training. fps: frames per second that the motion is meant for (the network is told fps - 1). augmentation: standard
    deviation of the noise on the picture in -1..1. min_guidance, max_guidance: ends of the guidance curve over the
    frames, `guidance_shape` a key of GUIDANCE_SHAPES; if only one end is given, the other's default yields to it.
    schedule: a key of SCHEDULES; solver: a key of SOLVERS. seed: picture b of a batch uses seed + b. fit: crop, pad or
    stretch; background: colour under transparent pixels. decode: "exact", or frames per independent chunk. camera: a
    path in words (`moves.parse_path`), "" for none; camera_mode: a key of `SIGNAL_MODES`;
    camera_strength: 0 is off, 1 usual, 2 nearly a slide show. windows: for clips longer than the model's own, frames
    that it sees at once, 0 for all; window_overlap: frames that windows share, by default a third. extend: frames to
    add behind the clip, each chunk held to its last extend_overlap frames. reuse: steps for which inner features of the
    UNet serve, 1 is off; reuse_depth, reuse_sigma_low and reuse_sigma_high as in `sampling.reuse.ReuseFeatures`, the
    last without limit from 700 on.
    """

    width: int | None = None
    height: int | None = None
    frames: int | None = None
    steps: int | None = None
    motion_bucket: float = 127
    fps: float = 7
    augmentation: float = 0.02
    min_guidance: float | None = None
    max_guidance: float | None = None
    guidance_shape: str = "linear"
    schedule: str | None = None
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX
    solver: str | None = None
    seed: int = 23
    fit: str = "crop"
    background: str | tuple[float, float, float] = "white"
    decode: str | int = "exact"
    camera: str = ""
    camera_mode: str = "partial re-noise"
    camera_strength: float = 1.0
    windows: int = 0
    window_overlap: int | None = None
    extend: int = 0
    extend_overlap: int = 4
    reuse: int = 1
    reuse_depth: int = DEPTH
    reuse_sigma_low: float = 0.0
    reuse_sigma_high: float = SIGMA_MAX

    def resolve(self, config: SVDConfig) -> "AnimateSettings":
        """Return these settings with every None replaced by the model's default; ValueError where one is illegal."""
        if config.variant.startswith("sv3d"):
            raise ValueError(f"{config.variant} is an orbital model, not for animate; use orbit, or load svd or svd_xt")
        defaults = {f.name: f.default for f in fields(self)}
        defaults |= {"width": config.width, "height": config.height, "frames": config.frames, "solver": "euler"}
        defaults["schedule"] = "karras"
        defaults |= _VARIANTS.get(config.variant, _SVD_XT if config.frames > 14 else _SVD)
        defaults |= _SCHEDULES.get(self.schedule or defaults["schedule"], {})
        # Of a window of one frame nothing can be shared.
        defaults["window_overlap"] = max(min(1, self.windows - 1), self.windows // 3)
        if self.max_guidance is not None:
            defaults["min_guidance"] = min(defaults["min_guidance"], self.max_guidance)
        if self.min_guidance is not None:
            defaults["max_guidance"] = max(defaults["max_guidance"], self.min_guidance)
        resolved = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        resolved._check()
        resolved._check_length(config)
        return resolved

    def sigmas(self) -> Tensor:
        """Return the sigma list [steps + 1] of resolved settings."""
        return make_sigmas(self.schedule, self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    def guidance(self) -> Tensor:
        """Return the guidance scales [frames] of resolved settings."""
        return guidance_curve(self.guidance_shape, self.min_guidance, self.max_guidance, self.frames)

    def length_controls(self) -> tuple[Control, ...]:
        """Return what makes resolved settings with `windows` sample in windows."""
        return (Windows(self.windows, self.window_overlap),) if self.windows else ()

    def run_controls(self) -> tuple[Control, ...]:
        """Return what resolved settings ask of the sampling besides the camera: windows, reuse of features."""
        return (*self.length_controls(), *self.reuse_controls())

    def reuse_controls(self) -> tuple[Control, ...]:
        """Return what makes resolved settings with `reuse` take up features of earlier steps."""
        return (self._reuse(),) if self.reuse > 1 else ()

    def _reuse(self) -> ReuseFeatures:
        high = math.inf if self.reuse_sigma_high >= SIGMA_MAX else self.reuse_sigma_high
        return ReuseFeatures(self.reuse, self.reuse_depth, self.reuse_sigma_low, high)

    def _check_length(self, config: SVDConfig) -> None:
        """Find windows and chunks that do not fit the clip."""
        for name, value in (("windows", self.windows), ("extend", self.extend)):
            if value < 0:
                raise ValueError(f"{name} is {value}, but it is a number of frames; use 0 for none")
        for windows in self.length_controls():
            windows.starts(self.frames)
        if self.extend and Extension(config.frames, self.extend_overlap).overlap > self.frames:
            raise ValueError(
                f"extend_overlap is {self.extend_overlap}, but the clip has {self.frames} frames; use at most "
                f"{self.frames}"
            )

    def _check(self) -> None:
        """Find illegal values before anything is computed."""
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be at most {most}; use a smaller one")
        check_size(self.width, self.height)
        choices = (("schedule", SCHEDULES), ("guidance_shape", GUIDANCE_SHAPES), ("solver", SOLVERS))
        for name, known in (*choices, ("camera_mode", SIGNAL_MODES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; use one of {', '.join(known)}")
        for name, low, advice in (
            ("frames", 1, "use the number the model was trained on, such as 14 or 25"),
            ("fps", 1, "use 6 to 30, such as 7"),
            ("motion_bucket", 0, "use 1 to 255, such as 127"),
            ("augmentation", 0, "use 0 to 0.1, such as 0.02"),
            ("max_guidance", 0, "use 1 for none"),  # first, for the lower end yields to it
            ("min_guidance", 0, "use 1 for none"),
            ("camera_strength", 0, "use 0.5 to 2, such as 1"),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ValueError(f"{name} is {value:g}, but it must be a number of at least {low}; {advice}")
        parse_plan(self.decode)
        check_seed(self.seed)
        self.sigmas()
        self._reuse()
        if self.camera:
            parse_path(self.camera).poses(self.frames)


def off_distribution(settings: AnimateSettings, config: SVDConfig) -> dict[str, str]:
    """Return what the model was not trained for in resolved `settings`: setting -> one sentence. Legal, but worse."""
    advice = {}
    if settings.motion_bucket > 255:
        advice["motion_bucket"] = f"motion bucket {settings.motion_bucket:g} is above 255, the highest in training"
    # The advised range, 5..30, is of the number the network sees (spec section 1.2).
    if not 6 <= settings.fps <= 31:
        advice["fps"] = f"{settings.fps:g} fps is outside 6 to 31, the range the official script advises"
    if config.variant == "svd_xt_1_1" and (settings.fps, settings.motion_bucket) != (7, 127):
        advice["1.1"] = "SVD-XT 1.1 was tuned at 7 fps and motion bucket 127 alone; other values work better in SVD-XT"
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
