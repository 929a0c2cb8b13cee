"""Cut and drag: objects cut out of the picture and pasted along a path, as a signal that the sampler makes real.

What an object leaves behind is filled from its surroundings, and there the model is free (Time-to-Move, 2025). No
extra weights and no gradients. A camera may film the scene while the objects move in it.

Pictures are [1, 3, H, W] in -1..1, masks [1, 1, H, W] in 0..1, y points down.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import printable
from ..pictures.reading import lay_out
from .camera.control import WarpedSignal
from .camera.path import EASINGS, CameraPath
from .camera.poses import Poses
from .camera.warping import Warped, fill_holes, warp
from .signal import Signal, encode_frames
from .strength import check_share

log = logging.getLogger("svd_reel")

BACKGROUND = 0.5
BORDER = 2  # pixels around the mask that still show the object, because painted masks are a little small
LOW, HIGH = -1.0, 2.0  # of points, in picture sides


@dataclass(frozen=True)
class DragPath:
    """The path of an object: points (x, y) in picture widths and heights, the first of them where the object is now.

    Only differences to the first point count, so it may be anywhere on the object. The object follows the lines between
    the points at a constant speed, changed by the easing.

    scales: factors, and turns: degrees clockwise. They are reached one after the other at even times, from 1 and 0 in
    the first frame. easing: a key of EASINGS.
    """

    points: tuple[tuple[float, float], ...]
    scales: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()
    easing: str = "linear"

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(
                f"the drag path needs at least 2 points (got {len(self.points)}); write where the object is and where "
                "it goes, such as 0.3,0.5; 0.6,0.5"
            )
        for x, y in self.points:
            if not (LOW <= x <= HIGH and LOW <= y <= HIGH):
                raise ValueError(
                    f"points of the drag path must be {LOW:g} to {HIGH:g} picture sides (got {x:g},{y:g}); use 0 to 1 "
                    "inside the picture"
                )
        for scale in self.scales:
            if not 0.1 <= scale <= 10:
                raise ValueError(f"scales of the drag path must be 0.1 to 10 (got {scale:g}); use 0.7 to 1.4")
        for turn in self.turns:
            if not (math.isfinite(turn) and abs(turn) <= 3600):
                raise ValueError(
                    f"turns of the drag path must be -3600 to 3600 degrees (got {turn:g}); use -180 to 180"
                )
        if self.easing not in EASINGS:
            raise ValueError(f"the easing {self.easing!r} is unknown; use one of {', '.join(EASINGS)}")

    def places(self, frames: int) -> Tensor:
        """Return shift x, shift y, scale and turn of every frame: [T, 4], float64."""
        if frames < 2:
            raise ValueError(f"dragging needs at least 2 frames (got {frames}); use 14 or 25")
        when = EASINGS[self.easing](torch.linspace(0, 1, frames, dtype=torch.float64))
        points = torch.tensor(self.points, dtype=torch.float64)
        lengths = (points[1:] - points[:-1]).norm(dim=1)
        along = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        along = along / along[-1] if float(along[-1]) > 0 else torch.linspace(0, 1, len(points), dtype=torch.float64)
        shifts = [_interpolate(when, along, points[:, axis] - points[0, axis]) for axis in (0, 1)]
        keys = ((1.0, self.scales), (0.0, self.turns))
        reached = [_interpolate(when, None, torch.tensor([start, *values])) for start, values in keys]
        return torch.stack([*shifts, *reached], dim=1)


def parse_drag(points: str, scales: str = "", turns: str = "", easing: str = "linear") -> DragPath:
    """Return the path written as points "x,y; x,y; ...", factors "1.2, 1" and degrees "15"; empty text means none."""
    rows = []
    for point in points.split(";"):
        row = _numbers(point, f"the point {printable(point.strip())!r} of the drag path", "x,y such as 0.3,0.5")
        if row and len(row) != 2:
            raise ValueError(
                f"the point {printable(point.strip())!r} of the drag path has {len(row)} numbers; write x,y"
            )
        rows += [row] if row else []
    return DragPath(
        tuple(rows),
        _numbers(scales, "the scales of the drag path", "factors such as 1.2, 1"),
        _numbers(turns, "the turns of the drag path", "degrees such as 15, -15"),
        easing,
    )


def parse_drags(points: str, scales: str = "", turns: str = "", easing: str = "linear") -> list[DragPath]:
    """Return a path for each line of `points` (or each part between "|"); scales, turns and easing serve all."""
    lines = [line for line in points.replace("|", "\n").splitlines() if line.strip()]
    return [parse_drag(line, scales, turns, easing) for line in lines or [""]]


def points_text(text: str, width: int, height: int) -> str:
    """Return a path written as lists of points in JSON as "x,y; x,y | ..."; other texts as they are.

    Takes [{"x": 10, "y": 20}, ...] for one object, or a list of these for several, as spline editors write them. Points
    outside -1..2 are pixels of a picture of that size.
    """
    if not text.lstrip().startswith("["):
        return text
    try:
        content = json.loads(text)
        tracks = content if content and isinstance(content[0], list) else [content]
        found = [[(float(point["x"]), float(point["y"])) for point in track] for track in tracks]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(
            f'the drag path {text[:60]!r} is not a list of points; write [{{"x": 10, "y": 20}}], or 0.3,0.5; 0.6,0.5'
        ) from None
    lines = []
    for points in found:
        pixels = any(not LOW <= value <= HIGH for point in points for value in point)
        across, down = (width, height) if pixels else (1, 1)
        lines.append("; ".join(f"{x / across:.6g},{y / down:.6g}" for x, y in points))
    return " | ".join(lines)


@torch.no_grad()
def drag_frames(picture: Tensor, objects: Sequence[tuple[Tensor, DragPath]], frames: int) -> tuple[Warped, Tensor]:
    """Return the frames with all objects pasted along their paths, and the place of the objects [T, 1, H, W] in 0..1.

    Frame 0 is the picture. Later objects lie over earlier ones. A warning is logged for an object that leaves the
    picture. Raises ValueError for an empty mask.
    """
    picture = lay_out(picture)
    objects = [(lay_out(mask), path) for mask, path in objects]
    whole = torch.cat([mask for mask, _ in objects]).amax(0, keepdim=True)
    hole = F.max_pool2d((whole > 0.05).to(picture), 2 * BORDER + 1, 1, BORDER)
    background = fill_holes(picture, 1 - hole)
    pasted = background.repeat(frames, 1, 1, 1)
    there = torch.zeros(frames, 1, *picture.shape[2:]).to(picture)
    for number, (mask, path) in enumerate(objects, 1):
        if not bool((mask > 0.5).any()):
            raise ValueError(f"the mask of object {number} is empty; paint over the object to drag")
        grid = _grids(mask, path, frames)
        layers = [
            F.grid_sample(part.expand(frames, -1, -1, -1), grid, padding_mode=outside, align_corners=False)
            for part, outside in ((picture, "border"), (mask.to(picture), "zeros"))
        ]
        if not bool((layers[1][-1] > 0.5).any()):
            log.warning("object %d has left the picture in the last frame; shorten its path to keep it", number)
        pasted = torch.lerp(pasted, layers[0], layers[1])
        there = torch.maximum(there, layers[1])
    pasted[0], there[0] = picture[0], whole[0]
    valid = torch.maximum((there > 0.5).to(there), 1 - hole)
    valid[0] = 1.0
    return Warped(pasted, valid), there


@torch.no_grad()
def film_objects(pasted: Warped, there: Tensor, poses: Poses, depth: Tensor | None = None) -> tuple[Warped, Tensor]:
    """Return what a camera sees of frames with pasted objects, and the place of the objects there.

    pasted, there: from `drag_frames`. The objects move in the scene, and frame t is seen in pose t.
    depth: distances [1, 1, H, W] in frame 0 (`camera.control.scene_depth`). An object keeps the distance of its middle.
    """
    if depth is not None:
        hidden = there[:1] > 0.5
        far = fill_holes(depth, 1 - F.max_pool2d(hidden.to(depth), 2 * BORDER + 1, 1, BORDER))
        near = depth[hidden].median() if bool(hidden.any()) else depth.median()
    parts = []
    for number in range(len(there)):
        layers = torch.cat([part[number : number + 1] for part in (pasted.frames, there, pasted.valid)], dim=1)
        distance = depth if number == 0 or depth is None else torch.where(there[number : number + 1] > 0.5, near, far)
        parts.append(warp(layers, poses.at([number]), distance))
    layers = torch.cat([part.frames for part in parts])  # [T, 5, H, W]
    seen = torch.cat([part.valid for part in parts])
    frames, there, known = layers.split([3, 1, 1], dim=1)
    there = there.clamp(0, 1) * seen
    return Warped(frames.clamp(-1, 1), seen * (known > 0.99)), there


@torch.no_grad()
def drag_signal(
    encode: Callable[[Tensor], Tensor],
    picture: Tensor,
    objects: Sequence[tuple[Tensor, DragPath]],
    frames: int,
    *,
    background: float = BACKGROUND,
    camera: CameraPath | None = None,
    depth: Tensor | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> WarpedSignal:
    """Return dragged objects as a signal in latents for `signal.DualClock`, with its frames in pixels.

    Cells of the objects are certain (1), cells that they leave behind are free (0).

    encode: returns the unscaled latent of a picture [1, 3, 8h, 8w]. background: how firmly the other cells are held,
    0 (they may move) to 1 (they stand still). camera: moves over the scene while the objects move in it; the other
    cells are then held like the objects, because they must follow it. depth: see `film_objects`.
    on_frame(done, frames) reports progress.
    """
    check_share("the background's hold", background, "use 0.5")
    warped, there = drag_frames(picture, objects, frames)
    if camera is not None:
        warped, there = film_objects(warped, there, camera.poses(frames), depth)
        background = 1.0
    latents = encode_frames(encode, warped.frames, on_frame)
    inside, known = (F.avg_pool2d(part, 8) for part in (there, warped.valid))
    rest = torch.where(known > 0.99, background, 0.0).to(inside)
    return WarpedSignal(Signal(latents, torch.where(inside > 0.5, 1.0, rest).to(inside)), warped)


def _grids(mask: Tensor, path: DragPath, frames: int) -> Tensor:
    """Return the sampling grid [T, H, W, 2] of grid_sample: where each pixel of each frame looks in the picture."""
    height, width = mask.shape[2:]
    sides = torch.tensor([width, height], dtype=torch.float64)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) + 0.5 for side in (height, width)), indexing="ij")
    pixels = torch.stack([x, y], dim=-1)  # [H, W, 2]
    weight = mask[0, 0].double().cpu()[..., None]
    centre = (pixels * weight).sum((0, 1)) / weight.sum()
    grids = []
    for shift_x, shift_y, scale, turn in path.places(frames).tolist():
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        back = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64) / scale
        moved = pixels - centre - torch.tensor([shift_x, shift_y], dtype=torch.float64) * sides
        grids.append((moved @ back.T + centre) / sides * 2 - 1)
    return torch.stack(grids).to(mask)


def _interpolate(when: Tensor, knots: Tensor | None, values: Tensor) -> Tensor:
    """Return linear interpolation [T] of `values` at rising `knots` in 0..1 (None: evenly spaced), at `when` [T]."""
    values = values.double()
    if len(values) == 1:
        return values.expand(len(when)).clone()
    knots = torch.linspace(0, 1, len(values), dtype=torch.float64) if knots is None else knots
    index = torch.searchsorted(knots, when, right=True).clamp(1, len(values) - 1)
    span = (knots[index] - knots[index - 1]).clamp(min=1e-12)
    return torch.lerp(values[index - 1], values[index], ((when - knots[index - 1]) / span).clamp(0, 1))


def _numbers(text: str, what: str, wanted: str) -> tuple[float, ...]:
    """Return the numbers in `text`, separated by commas or spaces; raises ValueError for other text."""
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"{what} is not a list of numbers (got {printable(text.strip())!r}); write {wanted}") from None
