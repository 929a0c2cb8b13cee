"""The defaults of every variant: size, frames, steps, guidance and schedule (spec sections 1.2, 8.2, 11.2).

Plain data without torch, so that a plan is printed at once.
"""

from collections.abc import Mapping
from typing import Any

from ..networks.config import SVDConfig

ORBIT_VARIANTS = ("sv3d_u", "sv3d_p")
VIDEO_READERS = ("depthcrafter", "normalcrafter")

# Steps and linear guidance of the official scripts; a custom model goes by its number of frames.
_SVD = {"steps": 25, "min_guidance": 1.0, "max_guidance": 2.5}
_SVD_XT = {"steps": 30, "min_guidance": 1.5, "max_guidance": 3.0}
# Schedules made for few steps bring their own defaults.
_SCHEDULES = {
    "align_your_steps": {"steps": 10},
    "lcm": {"steps": 4, "solver": "lcm", "min_guidance": 1.0, "max_guidance": 1.2},
}
_VARIANTS = {
    "svd": _SVD,
    "svd_xt": _SVD_XT,
    "svd_xt_1_1": _SVD_XT,
    "animatelcm": {"schedule": "lcm", **_SCHEDULES["lcm"]},
    "mimicmotion": {"steps": 25, "min_guidance": 2.0, "max_guidance": 2.0},
    "controlnext": {"steps": 25, "min_guidance": 3.0, "max_guidance": 3.0},
    "nano": {"steps": 20, "min_guidance": 1.0, "max_guidance": 1.0},
}

ORBIT: Mapping[str, Any] = {"steps": 50, "min_guidance": 1.0, "max_guidance": 2.5}
"""Steps and triangle of guidance of an orbit with SV3D."""

LONGEST_ORBIT, LARGEST_ORBIT, MOST_ORBIT_STEPS = 1000, 2048, 10_000
"""Most frames, pixels of a side, and steps of an orbit."""

READER_WINDOWS = {"depthcrafter": 110, "normalcrafter": 14}
"""Frames that a video reader denoises at once."""

READER_STEPS, READER_GUIDANCE = 5, 1.0
"""Steps and guidance of DepthCrafter; NormalCrafter evaluates once."""


def clip_defaults(config: SVDConfig, schedule: str | None = None) -> dict[str, Any]:
    """Return what a clip of a model has where the user gives nothing: size, steps, guidance, schedule, solver.

    schedule: the one that the user chose; None takes the model's own.
    """
    found: dict[str, Any] = {"width": config.width, "height": config.height, "frames": config.frames}
    found |= {"solver": "euler", "schedule": "karras"}
    found |= _VARIANTS.get(config.variant, _SVD_XT if config.frames > 14 else _SVD)
    return found | _SCHEDULES.get(schedule or found["schedule"], {})
