"""Measures nano's line-art ControlNet on photographs it has never seen: python -m recipes.nano.evaluate_controlnet.

The control is the lines of each held-out photograph, filmed by a camera that moves otherwise than nano's own rule has
it. For every clip the lines of its frames are correlated with the control, with and without the ControlNet, which
starts from the same noise.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import svd_core as svd
from svd_core.controls.lines import line_drawing

from .camera import Move, film
from .networks import SIZE
from .photographs import HELD_OUT, fit_frame, load_photograph
from .sheets import contact_sheet

MOVES = {
    "pan left": (-0.05, 0.0, 0.0, 0.0),
    "pan right": (0.05, 0.0, 0.0, 0.0),
    "tilt down": (0.0, 0.05, 0.0, 0.0),
    "zoom out": (0.0, 0.0, -0.04, 0.0),
    "roll": (0.0, 0.0, 0.0, 0.04),
}
"""Right, down, log zoom and roll per frame, in halves of the picture's side and radians."""
SHOWN = ("pan left",)  # on the sheet
FRAMES = 8
WIDER = 3 / 2  # the photograph filmed is this much larger than the first frame, so that a pan has something to show


def moved_views(photograph: Tensor, move: tuple[float, ...]) -> Tensor:
    """Return the frames [T, 3, SIZE, SIZE] in -1..1 of a camera moving over a photograph [3, H, W]."""
    field = fit_frame(photograph, round(SIZE * WIDER), round(SIZE * WIDER))
    speeds = (torch.tensor([part]) for part in move)
    return film(field[None], Move(*speeds), FRAMES, SIZE, SIZE)[0].clamp(-1, 1)


def lines_of(frames: Tensor) -> Tensor:
    """Return the line drawings [T, H, W, 3] in 0..1 of frames [T, 3, H, W] in -1..1."""
    return line_drawing((frames / 2 + 0.5).clamp(0, 1).movedim(1, -1))


def correlation(a: Tensor, b: Tensor) -> float:
    """Return the mean correlation of the drawings of two clips [T, H, W, 3], frame by frame without the first."""
    pairs = zip(a[1:, ..., 0].flatten(1), b[1:, ..., 0].flatten(1), strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean())


def main() -> None:
    """Print a table: one row a photograph and move, without and with the ControlNet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--controlnet", default="nano", help="file to measure; nano is the one of the pack")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--end", type=float, default=1.0, help="share of the sampling at which the control ends")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="contact sheet: control, without and with, of every photograph")
    parser.add_argument("--pictures", nargs="+", default=HELD_OUT)
    given = parser.parse_args()
    model = svd.load_model("nano")
    print("| photograph | control | without | with |\n|---|---|---|---|")
    rows = []
    for name in given.pictures:
        plain = None
        for label, move in MOVES.items():
            views = moved_views(load_photograph(name), move)
            control, settings = lines_of(views), svd.AnimateSettings(frames=FRAMES, steps=given.steps)
            if plain is None:  # every move starts with the same view
                plain = svd.animate(model, views[:1], settings)
            steered = svd.animate(
                model, views[:1], settings, controlnet=given.controlnet, controlnet_images=control,
                controlnet_strength=given.strength, controlnet_end=given.end,
            )  # fmt: skip
            without, followed = (correlation(line_drawing(clip), control) for clip in (plain, steered))
            print(f"| {name} | {label} | {without:.3f} | {followed:.3f} |", flush=True)
            if label in SHOWN:
                rows += [clip.movedim(-1, 1) * 2 - 1 for clip in (control, plain, steered)]
    if given.sheet:
        contact_sheet(rows, given.sheet)


if __name__ == "__main__":
    main()
