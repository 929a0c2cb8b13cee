"""What a plan of memory and time depends on: of a clip, of an orbit with SV3D, or of a video's depth.

Needs no torch: `svd-reel plan` answers at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..networks.config import SVDConfig
from ..sampling.limits import DEPTH, check_reuse
from .clip_size import ClipSize, described
from .defaults import (
    LARGEST_ORBIT,
    LONGEST_ORBIT,
    ORBIT,
    ORBIT_VARIANTS,
    READER_GUIDANCE,
    READER_STEPS,
    READER_WINDOWS,
    clip_defaults,
)


@dataclass(frozen=True)
class PlannedClip:
    """A clip of which memory and time are planned.

    frames: that the network sees at once. guided: whether CFG runs two passes. schedule: name of the noise levels.
    reuse: interval and depth of feature reuse. adapters: networks that steer it, by the names of `plan.adapter_costs`.
    """

    frames: int
    width: int
    height: int
    steps: int
    guided: bool
    schedule: str = "karras"
    reuse: tuple[int, int] = (1, DEPTH)
    adapters: tuple[str, ...] = ()


def planned_clip(
    config: SVDConfig,
    *,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    steps: int | None = None,
    reuse: tuple[int, int] = (1, DEPTH),
    adapters: Sequence[str] = (),
) -> PlannedClip:
    """Return the clip of this size, None meaning the model's own; ValueError for numbers out of range.

    An orbit is square. A video reader sees one window of its video at a time.
    """
    given = {"width": width, "height": height, "frames": frames, "steps": steps}
    known = {**clip_defaults(config), **_own_defaults(config, given)}
    if config.variant == "normalcrafter":
        given["steps"] = 1  # it evaluates once, whatever is asked for
    chosen = {name: known[name] if value is None else value for name, value in given.items()}
    for one in described(ClipSize):
        one.check(chosen[one.name])
    check_reuse(*reuse)
    guided = (known["min_guidance"], known["max_guidance"]) != (1, 1)
    return PlannedClip(**chosen, guided=guided, schedule=known["schedule"], reuse=reuse, adapters=tuple(adapters))


def _own_defaults(config: SVDConfig, given: dict[str, int | None]) -> dict[str, object]:
    """Return the defaults of models that make no usual clips: orbits and video readers; none for all others."""
    if config.variant in ORBIT_VARIANTS:
        sides = {side for side in (given["width"], given["height"]) if side is not None}
        if len(sides) > 1:
            raise ValueError(f"an orbit is square (got {given['width']}x{given['height']}); use 576x576")
        size = sides.pop() if sides else config.width
        for name, value, most in (("size", size, LARGEST_ORBIT), ("frames", given["frames"] or 1, LONGEST_ORBIT)):
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be 1 to {most} (got {value}); use the model's own")
        return {**ORBIT, "width": size, "height": size}
    if config.variant in READER_WINDOWS:
        guidance = {"min_guidance": READER_GUIDANCE, "max_guidance": READER_GUIDANCE}
        return {"frames": READER_WINDOWS[config.variant], "steps": READER_STEPS, **guidance}
    return {}
