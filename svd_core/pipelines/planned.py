"""The settings for which memory and time are planned: those of a clip, or of an orbit with SV3D."""

from dataclasses import replace

from ..networks.config import SVDConfig
from .orbit import ORBIT_VARIANTS, OrbitSettings
from .settings import AnimateSettings


def planned_settings(
    config: SVDConfig,
    *,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    steps: int | None = None,
    reuse: int = 1,
) -> AnimateSettings:
    """Return the resolved settings of a clip of this size, None meaning the model's own; an orbit is square."""
    if config.variant not in ORBIT_VARIANTS:
        given = {"width": width, "height": height, "frames": frames, "steps": steps, "reuse": reuse}
        return AnimateSettings(**given).resolve(config)
    if width and height and width != height:
        raise ValueError(f"an orbit is square (got {width}x{height}); use 576x576")
    defaults = OrbitSettings()
    orbit = OrbitSettings(size=width or height, frames=frames, steps=steps or defaults.steps).resolve(config)
    ends = {"min_guidance": orbit.min_guidance, "max_guidance": orbit.max_guidance, "guidance_shape": "triangle"}
    size = {"width": orbit.size, "height": orbit.size, "frames": orbit.frames, "steps": orbit.steps}
    return AnimateSettings(**size, **ends).resolve(replace(config, variant="custom"))
