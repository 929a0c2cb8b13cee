"""The grid of a sweep: which settings it tries, and their row and column on the sheet."""

import math
from dataclasses import dataclass, replace
from itertools import product

from ..files import printable
from ..pipelines.settings import AnimateSettings

MOST_CELLS = 100
AXES = {
    "buckets": "motion_bucket",
    "seeds": "seed",
    "sigma_max": "sigma_max",
    "fps": "fps",
    "strengths": "camera_strength",
}
"""The lists of a grid, and the setting that each of them varies."""
NAMES = {
    "motion_bucket": "bucket",
    "seed": "seed",
    "sigma_max": "sigma max",
    "fps": "fps",
    "camera_strength": "strength",
}


@dataclass(frozen=True)
class Grid:
    """Values to combine; an empty list keeps the value of the shared settings.

    buckets: 0..255. seeds: whole numbers. sigma_max: the first noise level, 700 by default; lower starts closer to the
    picture and moves less. fps: frame rate for which the motion is made. strengths: of the camera path in the shared
    settings, 0 or above.
    """

    buckets: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    sigma_max: tuple[float, ...] = ()
    fps: tuple[float, ...] = ()
    strengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in AXES:
            values = getattr(self, name)
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{name} holds {twice:g} twice; give each value once")
        if self.count > MOST_CELLS:
            raise ValueError(
                f"the grid has {self.count} cells, but at most {MOST_CELLS} fit on a sheet; shorten the lists"
            )

    @property
    def count(self) -> int:
        """Number of cells."""
        return math.prod(len(getattr(self, name)) or 1 for name in AXES)

    @property
    def varying(self) -> list[str]:
        """Lists with several values in the order of AXES: the first runs over the columns, the others over the rows."""
        return [name for name in AXES if len(getattr(self, name)) > 1]

    def cells(self, settings: AnimateSettings) -> list[AnimateSettings]:
        """Return the settings of every cell, row by row."""
        across = self.varying[:1]
        down = [name for name in AXES if name not in across]
        choices = [[(AXES[name], value) for value in getattr(self, name)] or [()] for name in [*down, *across]]
        return [replace(settings, **dict(filter(None, choice))) for choice in product(*choices)]

    @property
    def columns(self) -> int:
        """Number of cells in a row."""
        return len(getattr(self, self.varying[0])) if self.varying else 1

    def column_label(self, settings: AnimateSettings) -> str:
        """Return the label of a cell's column."""
        return "".join(label(name, settings) for name in self.varying[:1])

    def row_label(self, settings: AnimateSettings) -> str:
        """Return the label of a cell's row."""
        return ", ".join(label(name, settings) for name in self.varying[1:])


def label(name: str, settings: AnimateSettings) -> str:
    """Return a value of a list with its name, such as "bucket 127"."""
    value = getattr(settings, AXES[name])
    return f"{NAMES[AXES[name]]} {value if isinstance(value, int) else format(value, 'g')}"


def parse_list(text: str, what: str, *, whole: bool = False) -> tuple:
    """Return the numbers of a text, separated by commas or spaces; raise ValueError with `what` for other texts."""
    words = text.replace(",", " ").replace(";", " ").split()
    kind, example = (int, "1, 2, 3") if whole else (float, "60, 127, 200")
    try:
        numbers = tuple(kind(word) for word in words)
        finite = all(math.isfinite(number) for number in numbers)
    except (ValueError, OverflowError):  # a whole number may be too large for a float
        finite = False
    if not finite:
        raise ValueError(
            f"{what} is {printable(text)!r}; write {'whole ' * whole}numbers separated by commas, such as {example}"
        ) from None
    return numbers
