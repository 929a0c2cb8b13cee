"""Camera moves at the default settings: the requested and the measured move."""

import math

import torch
from torch import Tensor

from svd_core.controls.signal import SIGNAL_MODES
from svd_core.flow.planes import luminance
from svd_core.flow.shared import fit_similarity
from svd_core.report.measuring import measure

from .bench import Bench, Found, correlation

TITLE = "Camera: asked and measured over the clip"
NEAREST, FARTHEST, AGREEMENT, SHARP = 0.85, 1.1, 0.98, 0.45
# Paths, and the requested amount over the whole clip, with the sign of the camera; the content moves the other way.
SWEEP: dict[str, tuple[tuple[str, float], ...]] = {
    "pan": (("pan left 0.2", -0.2), ("pan left 0.1", -0.1), ("pan right 0.1", 0.1), ("pan right 0.2", 0.2)),
    "tilt": (("tilt down 0.2", -0.2), ("tilt down 0.1", -0.1), ("tilt up 0.1", 0.1), ("tilt up 0.2", 0.2)),
    "zoom": (("zoom out 1.3", 1 / 1.3), ("zoom out 1.15", 1 / 1.15), ("zoom in 1.15", 1.15), ("zoom in 1.3", 1.3)),
    "roll": (("roll ccw 12", -12), ("roll ccw 6", -6), ("roll cw 6", 6), ("roll cw 12", 12)),
}
PARTIAL, *OTHER_MODES = SIGNAL_MODES


def measured_move(kind: str, clip: Tensor) -> float:
    """Return the move of the camera over the clip, in the unit of its path."""
    total = measure(clip).summary()
    if kind == "pan":
        return total["camera_right"] / 100
    if kind == "tilt":
        return total["camera_up"] / 100
    return total[f"camera_{kind}"]


def turned_between(clip: Tensor) -> float:
    """Return the roll in degrees from the first to the last frame, fitted to these two alone; positive clockwise.

    `measured_move` adds up the rolls of neighbours. The grid of a small autoencoder stays on the screen while the
    picture turns, which makes each of those small rolls a little smaller.
    """
    first, last = (luminance(frame)[None, None] for frame in (clip[0], clip[-1]))
    return -float(torch.rad2deg(fit_similarity(first, last).scale.angle()))


def slope_of(kind: str, asked: list[float], got: list[float]) -> float:
    """Return the slope of the measured moves over the asked ones, through no move; zooms by their logarithm."""
    if kind == "zoom":
        asked, got = ([math.log(value) for value in values] for values in (asked, got))
    return sum(a * g for a, g in zip(asked, got, strict=True)) / sum(a * a for a in asked)


def sharpness_kept(clip: Tensor) -> float:
    """Return the variance of the Laplacian of the last frame over that of the first."""
    return measure(clip).sharpness[-1] ** 2


def sweep(bench: Bench, kind: str, found: Found, mode: str = PARTIAL, note: str = "", **settings) -> None:
    """Measure one kind of move with several amounts, and add it as a row."""
    got: list[float] = []
    kept: list[float] = []
    for path, _ in SWEEP[kind]:
        clip = bench.clip(**{"camera": path, "camera_mode": mode, "motion_bucket": None} | settings)
        got.append(measured_move(kind, clip))
        kept.append(sharpness_kept(clip))
        if path == SWEEP[kind][-1][0] and mode == PARTIAL and not note:
            found.clips.append((f"{bench.name}: {path}", clip))
    asked = [amount for _, amount in SWEEP[kind]]
    middle = 1.0 if kind == "zoom" else 0.0
    signs = sum((a > middle) == (g > middle) for a, g in zip(asked, got, strict=True))
    agreement, slope, sharp = correlation(asked, got), slope_of(kind, asked, got), min(kept)
    words = [" ".join(f"{v:+.1f}" if kind == "roll" else f"{v:+.2f}" for v in row) for row in (asked, got)]
    where = ", ".join(part for part in (mode, note) if part)
    signs_words, sharp_words = f"{signs}/{len(asked)}", f"{100 * sharp:.0f} %"
    row = (bench.name, where, kind, *words, f"{slope:.2f}", f"{agreement:.3f}", signs_words, sharp_words)
    met = NEAREST <= slope <= FARTHEST and agreement >= AGREEMENT and signs == len(asked) and sharp >= SHARP
    found.add(TITLE, row, met)


def moves(bench: Bench, kind: str) -> Found:
    """Sweep one kind of move in the usual mode."""
    found = Found()
    sweep(bench, kind, found)
    return found


def modes(bench: Bench, mode: str) -> Found:
    """Sweep all kinds of move in another mode."""
    found = Found()
    for kind in SWEEP:
        sweep(bench, kind, found, mode)
    return found


def another(bench: Bench) -> Found:
    """Sweep pan and zoom with another seed, at the size of the bench."""
    found = Found()
    for kind in ("pan", "zoom"):
        sweep(bench, kind, found, note=f"seed 5, {bench.width}x{bench.height}", seed=5)
    return found
