"""Which settings a sweep tries, and where each of them lies on the sheet."""

import math
from dataclasses import dataclass, replace
from itertools import product

from ..pipelines.settings import AnimateSettings

MOST_CELLS = 100
AXES = {"buckets": "motion_bucket", "seeds": "seed", "sigma_max": "sigma_max", "fps": "fps"}
"""The lists of a grid, and the setting that each varies."""
NAMES = {"motion_bucket": "bucket", "seed": "seed", "sigma_max": "sigma max", "fps": "fps"}


@dataclass(frozen=True)
class Grid:
    """Values to try, each with each; an empty list keeps what the settings say.

    buckets: 0..255. seeds: whole numbers. sigma_max: the first noise level, 700 officially; lower starts closer to the
    picture and moves less. fps: frames per second that the motion is meant for.
    """

    buckets: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    sigma_max: tuple[float, ...] = ()
    fps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in AXES:
            values = getattr(self, name)
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{name} holds {twice:g} twice; give each value once")
        if self.count > MOST_CELLS:
            raise ValueError(
                f"the grid has {self.count} cells, but a sheet holds at most {MOST_CELLS}; shorten the lists"
            )

    @property
    def count(self) -> int:
        """Number of cells."""
        return math.prod(len(getattr(self, name)) or 1 for name in AXES)

    @property
    def varying(self) -> list[str]:
        """The lists with several values, in the order of AXES: the first runs over the columns, the others the rows."""
        return [name for name in AXES if len(getattr(self, name)) > 1]

    def cells(self, settings: AnimateSettings) -> list[AnimateSettings]:
        """The settings of every cell, row by row."""
        across = self.varying[:1]
        down = [name for name in AXES if name not in across]
        ways = [[(AXES[name], value) for value in getattr(self, name)] or [()] for name in [*down, *across]]
        return [replace(settings, **dict(filter(None, choice))) for choice in product(*ways)]

    @property
    def columns(self) -> int:
        """Cells in a row."""
        return len(getattr(self, self.varying[0])) if self.varying else 1

    def column_label(self, settings: AnimateSettings) -> str:
        """What the column of a cell stands for."""
        return "".join(label(name, settings) for name in self.varying[:1])

    def row_label(self, settings: AnimateSettings) -> str:
        """What the row of a cell stands for."""
        return ", ".join(label(name, settings) for name in self.varying[1:])


def label(name: str, settings: AnimateSettings) -> str:
    """A value of a list in words, such as "bucket 127"."""
    value = getattr(settings, AXES[name])
    return f"{NAMES[AXES[name]]} {value if isinstance(value, int) else format(value, 'g')}"


def parse_list(text: str, what: str, *, whole: bool = False) -> tuple:
    """Numbers separated by commas or spaces, none of an empty text; ValueError naming `what` for anything else."""
    words = text.replace(",", " ").replace(";", " ").split()
    kind, example = (int, "1, 2, 3") if whole else (float, "60, 127, 200")
    try:
        numbers = tuple(kind(word) for word in words)
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(
            f"{what} is {text!r}; write {'whole ' * whole}numbers separated by commas, such as {example}"
        ) from None
    return numbers
