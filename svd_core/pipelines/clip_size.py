"""How settings are described, and the four that a plan depends on: width, height, frames, steps. Needs no torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from ..sampling.limits import MAX_STEPS

OWN = "the model's own"


@dataclass(frozen=True)
class Setting:
    """The description of one field of AnimateSettings, from which help texts, widgets and batch rows are derived.

    text: what the field is and its useful range, without a full stop. default_text: what None means. low, high: the
    legal range. advice: a good value, for errors. choices: the legal values of a field that takes a name.
    """

    name: str
    kinds: tuple[type, ...]
    default: Any
    text: str
    default_text: str = ""
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    advice: str = ""
    choices: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """The text with the default in brackets, if there is one."""
        shown = self.default_text or (f"{self.default}" if self.default not in (None, "") else "")
        return f"{self.text} (default: {shown})" if shown else self.text

    def check(self, value: Any) -> None:
        """Raise ValueError for an unknown choice or a number out of range; None stands for no number."""
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} {value!r} is unknown; use one of {', '.join(self.choices)}")
        if self.low is None or value is None:
            return
        high = math.inf if self.high is None else self.high
        if not (math.isfinite(value) and self.low <= value <= high):
            allowed = f"{self.low:g} or more" if self.high is None else f"{self.low:g} to {self.high:g}"
            raise ValueError(f"{self.name} must be {allowed} (got {value:g}); {self.advice}")


def setting(default: Any, text: str, **more: Any) -> Any:
    """Return a field of a dataclass with its description; `more` are fields of Setting."""
    return field(default=default, metadata={"text": text, **more})


def described(settings: type) -> Iterable[Setting]:
    """Yield the description of every field of a dataclass that was made with `setting`."""
    for one in fields(settings):
        yield Setting(one.name, get_args(one.type) or (one.type,), one.default, **one.metadata)


@dataclass(frozen=True)
class ClipSize:
    """Size and steps of a clip. None means the default of the loaded model."""

    width: int | None = setting(
        None,
        "width of the clip in pixels, a multiple of 8",
        default_text=OWN,
        metavar="PIXELS",
        low=16,
        high=16_384,
        advice="use the model's own, such as 1024",
    )
    height: int | None = setting(
        None,
        "height of the clip in pixels, a multiple of 8",
        default_text=OWN,
        metavar="PIXELS",
        low=16,
        high=16_384,
        advice="use the model's own, such as 576",
    )
    frames: int | None = setting(
        None,
        "number of frames",
        default_text="the model's own, 14 or 25",
        low=1,
        high=100_000,
        advice="use the number the model was trained on, such as 14 or 25",
    )
    steps: int | None = setting(
        None, "sampling steps, 10 to 30", default_text=OWN, low=1, high=MAX_STEPS, advice="use 20 to 30"
    )
