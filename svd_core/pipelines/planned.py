"""The settings for which memory and time are planned: of a clip, of an orbit with SV3D, or of a video's depth."""

from dataclasses import replace

from ..networks.config import SVDConfig
from .orbit import ORBIT_VARIANTS, OrbitSettings
from .settings import AnimateSettings
from .video_depth import VIDEO_READERS, VideoDepthSettings


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
    if config.variant in VIDEO_READERS:
        return _video_reading(config, width, height, frames, steps)
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


def _video_reading(
    config: SVDConfig, width: int | None, height: int | None, frames: int | None, steps: int | None
) -> AnimateSettings:
    """Return the settings of one window of a video reader: its steps, without guidance."""
    own = VideoDepthSettings(steps=steps or VideoDepthSettings.steps, window=frames).resolve(config)
    depth = own.kind == "depthcrafter"
    size = {"width": width, "height": height, "frames": own.window, "steps": own.steps if depth else 1}
    plain = replace(config, variant="custom")
    return AnimateSettings(**size, min_guidance=own.guidance, max_guidance=own.guidance).resolve(plain)
