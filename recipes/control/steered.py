"""Measurements of drags, in-betweens, loops, storyboards, the lab and driving clips at the product's defaults."""

import math

import torch
from torch import Tensor

from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import warp
from svd_core.lab.grid import Grid
from svd_core.lab.sweep import run_sweep
from svd_core.pictures import fit
from svd_core.pictures.reading import lay_out
from svd_core.pipelines.between import inbetween, loop
from svd_core.pipelines.steered import Steering
from svd_core.report.measuring import measure
from svd_core.storyboard.film import film_frames, plan_film
from svd_core.storyboard.panels import Panel
from svd_core.video import open_clip

from .bench import shown
from .camera import measured_move, turned_between
from .photographs import Photograph, model

RADIUS = 0.4  # of the dragged disc, in halves of a side
CROP = 0.1  # of the photograph's side between the crops of in-betweens
PANELS = ("pan right 0.2", "zoom in 1.3", "tilt up 0.15", "roll cw 8")
DRAGS = ("0.5,0.5; 0.72,0.5", "0.5,0.5; 0.28,0.5", "0.5,0.5; 0.5,0.72", "0.5,0.5; 0.38,0.36")


def disc(height: int, width: int) -> Tensor:
    """Return a mask [1, 1, H, W] of a disc in the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return ((x.square() + y.square()).sqrt() < RADIUS).float()[None, None]


def drag(photograph: Photograph, path: str) -> dict:
    """Drag a disc from the middle; return how far it ends from where it was asked to, as a share of the width."""
    mask = disc(photograph.height, photograph.width)
    steering = Steering(drag=path, drag_mask=mask.movedim(1, -1))
    clip = photograph.steered(steering=steering)
    ends = [[float(value) for value in point.split(",")] for point in path.split(";")]
    right, down = (ends[1][0] - ends[0][0]) * photograph.width, (ends[1][1] - ends[0][1]) * photograph.height
    error = end_error(clip[-1], shown(photograph.picture), mask[0, 0] > 0.5, (right, down))
    return {"error": error / photograph.width}


def end_error(frame: Tensor, picture: Tensor, area: Tensor, asked: tuple[float, float]) -> float:
    """Return how many pixels from `asked` (right, down) the object under `area` of the picture lies in a frame.

    It is looked for by its pixels, at the shift of least mean square error within a tenth of the width.
    """
    reach, errors = frame.shape[1] // 10, {}
    for right in range(round(asked[0]) - reach, round(asked[0]) + reach + 1):
        for down in range(round(asked[1]) - reach, round(asked[1]) + reach + 1):
            inside, moved = area.roll((down, right), (0, 1)), picture.roll((down, right), (0, 1))
            errors[right, down] = float((frame - moved)[inside].square().mean())
    right, down = min(errors, key=errors.get)
    return math.hypot(right - asked[0], down - asked[1])


def between(photograph: Photograph, case: str) -> dict:
    """Sample from one picture to another, nothing pasted; return pace, sharpness of the middle and path.

    straight: how far the shared motion is from an even walk from its start to its end, as a share of the whole motion.
    """
    first, second = _ends(photograph, case)
    clip = inbetween(model(), [first, second], photograph.settings(), exact_ends=False)
    report = measure(clip)
    middle = 2 * report.sharpness[len(clip) // 2] ** 2 / (1 + report.sharpness[-1] ** 2)
    right, up = report.camera.right, report.camera.up
    last = len(clip) - 1
    bend = max(math.hypot(right[t] - right[-1] * t / last, up[t] - up[-1] * t / last) for t in range(last + 1))
    moved = math.hypot(right[-1], up[-1])
    return {"pace": report.largest_step, "middle": middle, "moved": moved / 100, "bend": bend / max(moved, 1e-6)}


def _ends(photograph: Photograph, case: str) -> list[Tensor]:
    """Return two pictures [1, 3, H, W]: crops of the photograph, frames of a video, or it and another photograph.

    Frames of a video are written FILE@40-60, and the photograph is not used.
    """
    whole = photograph.whole
    height, width = (round(CROP * side) for side in whole.shape[2:])
    if case == "opposite corners":
        return [whole[..., :-height, :-width], whole[..., height:, width:]]
    if case == "nearer":
        return [whole, whole[..., height:-height, width:-width]]
    video, _, places = case.partition("@")
    if places:
        with open_clip(video) as frames:
            return [lay_out(frames[int(place)].movedim(-1, 0)[None]) * 2 - 1 for place in places.split("-")]
    return [whole, Photograph(case, (photograph.width, photograph.height), photograph.frames).whole]


def loops(photograph: Photograph, case: str) -> dict:
    """Make a loop; return the step over its seam relative to the median step."""
    return {"seam": measure(loop(model(), photograph.picture, photograph.settings())).loop_score}


def panels(photograph: Photograph, case: str) -> dict:
    """Make a storyboard with a panel for each move, with nothing but the moves; return what each panel did."""
    boards = [Panel(image=photograph.name, move=move, row=move) for move in PANELS]
    film = plan_film(boards, photograph.settings(), model().config)
    frames = list(film_frames(model(), lambda number: shown(photograph.picture)[None], film))
    count, got = len(frames) // len(PANELS), {}
    for number, move in enumerate(PANELS):
        got[move] = measured_move(move.split()[0], torch.stack(frames[number * count : (number + 1) * count]))
    return {"got": got}


def lab(photograph: Photograph, path: str) -> dict:
    """Sweep two seeds of a camera path in the lab; return what its cells did."""
    sweep = run_sweep(
        model(), shown(photograph.picture)[None], photograph.settings(camera=path), Grid(seeds=(1, 2)), shown=1
    )
    kind = path.split()[0]
    totals = [cell.report.summary() for cell in sweep.cells]
    return {"got": [total["camera_right"] / 100 if kind == "pan" else total[f"camera_{kind}"] for total in totals]}


def driven(photograph: Photograph, case: str) -> dict:
    """Follow a clip made by moving this photograph (animation), or another one (camera); return what was followed.

    ends: the roll from the first frame to the last (`turned_between`).
    """
    use, path = case.split(": ")
    other = (
        photograph.whole
        if use == "animation"
        else Photograph("coffee", (photograph.width, photograph.height), None).whole
    )
    width, height = photograph.width, photograph.height
    source, _ = fit(other, width, height)
    frames = photograph.frames or model().config.frames
    rough = warp(source, parse_path(path).poses(frames)).frames  # [T, 3, H, W]
    steering = Steering(control_clip=(rough.movedim(1, -1) + 1) / 2, control_use=use)
    kind = path.split()[0]
    rough, clip = steering.control_clip.contiguous(), photograph.steered(steering=steering)
    found = {"source": measured_move(kind, rough), "got": measured_move(kind, clip)}
    return found | ({"ends": turned_between(clip)} if kind == "roll" else {})


KINDS = {
    "drags": (drag, DRAGS),
    "between": (between, ("opposite corners", "nearer")),
    "loops": (loops, ("usual",)),
    "panels": (panels, ("usual",)),
    "lab": (lab, ("pan right 0.2", "zoom in 1.3")),
    "driven": (
        driven,
        ("animation: pan right 0.15", "animation: roll cw 8", "camera: pan right 0.15", "camera: zoom in 1.2",
         "camera: roll cw 8"),
    ),
}  # fmt: skip
"""Kinds of measurements: the function, and its cases."""
