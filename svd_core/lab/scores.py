"""Scores that rank the cells of a sweep: three rules over the numbers of the table."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..report import ClipReport

# Per cent of contrast, and of sharpness over the whole clip, that are as visible as one per cent of colour.
CONTRAST_SHARE, SHARPNESS_SHARE = 4.0, 8.0
MOVES = 0.1  # per cent of the width per frame: a clip that moves less counts as a still picture


@dataclass(frozen=True)
class Aim:
    """What the best cell is. score: a key of SCORES. motion: wanted motion in per cent of the width per frame, for
    "closest"; 0.3 is calm, 1 usual, 2 lively. drift: largest drift in per cent that is allowed, for "most motion".
    """

    score: str = "closest"
    motion: float = 1.0
    drift: float = 5.0

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"the score {self.score!r} is unknown; use {', '.join(SCORES)}")
        limits = (
            ("wanted motion", self.motion, "1 for usual motion"),
            ("drift limit", self.drift, "5, or 1000 for no limit"),
        )
        for name, value, remedy in limits:
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the {name} must be 0 % or more (got {value:g}); use {remedy}")

    @property
    def text(self) -> str:
        """The score in words."""
        return {
            "closest": f"closest to {self.motion:g} % of the width a frame",
            "most motion": f"most motion with at most {self.drift:g} % of drift",
            "steadiest": "steadiest that moves",
        }[self.score]


def measured(report: ClipReport) -> dict[str, float | None]:
    """Return the numbers of one cell: motion and pans in per cent of the width per frame, zoom, and all faults.

    drift: the largest of colour drift, contrast drift / 4 and change of sharpness over the clip / 8, in per cent.
    unsteadiness: flicker (per cent per frame) + drift / 10. followed: the mean share of the asked camera moves that the
    clip makes; None without a path.
    """
    total = report.summary()
    sharpness = abs(total["sharpness_slope"]) * (report.frames - 1)
    drift = max(total["colour_drift"], abs(total["contrast_drift"]) / CONTRAST_SHARE, sharpness / SHARPNESS_SHARE)
    kept = ("motion_percent", "pan_x_percent", "pan_y_percent", "zoom", "roll", "flicker", "colour_drift")
    numbers = {name: total[name] for name in (*kept, "contrast_drift", "sharpness_slope", "largest_step", "psnr")}
    numbers |= {"drift": drift, "unsteadiness": total["flicker"] + drift / 10}
    shares = [share for share in report.followed.values() if share is not None]
    return numbers | {"followed": sum(shares) / len(shares) if shares else None}


def beyond_limit(numbers: dict, aim: Aim) -> bool:
    """Return whether a cell drifts more than its rule allows."""
    return aim.score == "most motion" and numbers["drift"] > aim.drift


def _closest(numbers: dict, aim: Aim) -> tuple[float, ...]:
    return (abs(numbers["motion_percent"] - aim.motion), numbers["unsteadiness"])


def _most_motion(numbers: dict, aim: Aim) -> tuple[float, ...]:
    beyond = max(0.0, numbers["drift"] - aim.drift)
    return (beyond, -numbers["motion_percent"])


def _steadiest(numbers: dict, aim: Aim) -> tuple[float, ...]:
    return (float(numbers["motion_percent"] < MOVES), numbers["unsteadiness"])


SCORES: dict[str, Callable[[dict, Aim], tuple[float, ...]]] = {
    "closest": _closest,
    "most motion": _most_motion,
    "steadiest": _steadiest,
}
"""Rules by name; each returns a tuple, and the lowest one is the best.

closest: motion nearest to the wanted amount, then the steadier. most motion: the most motion within the drift limit; if
no cell is within it, the least drift. steadiest: the least unsteadiness among those that move at all.
"""


def ranking(cells: list[dict], aim: Aim) -> list[int]:
    """Return the ranks of cells, 1 for the best, by their `measured` numbers; of equal ones the earlier is better."""
    order = sorted(range(len(cells)), key=lambda index: SCORES[aim.score](cells[index], aim))
    return [order.index(index) + 1 for index in range(len(cells))]
