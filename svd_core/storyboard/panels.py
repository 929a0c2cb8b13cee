"""Read the panels of a storyboard from a folder of pictures, a CSV table or JSON, and check their values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..controls.camera.moves import parse_path
from ..controls.signal import SIGNAL_MODES
from ..files import quoted
from ..pipelines.by_name import FIELDS, located, parse_setting
from ..pipelines.settings import SETTINGS
from ..pipelines.steered import FILES
from ..sampling.noise import check_seed
from ..video.picture_clips import natural_order
from .tables import read_json, read_table, read_text

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TRANSITIONS = {"cut": "cut", "cross-fade": "cross-fade", "crossfade": "cross-fade", "dissolve": "cross-fade"}
ALIASES = {
    "camera": "move",
    "motion_bucket": "bucket",
    "camera_strength": "strength",
    "camera_mode": "mode",
    "transition_seconds": "fade",
    "file": "image",
    "picture": "image",
    "name": "title",
}

WHOLE_FILM = {
    **dict.fromkeys(("width", "height", "fps", "fit"), "all panels share it; give the option of the film"),
    **dict.fromkeys(("frames", "loop"), "the column seconds sets how long a panel is"),
}
"""Settings of a clip that no panel may have, and why. The same holds for those of windows and extensions."""


@dataclass(frozen=True)
class Panel:
    """One panel. None means the value that all panels share.

    image: file name, or the number of a picture in a batch, counted from 1. seconds: duration in the film, above 0;
    default: the model's own clip. move: camera path in words (`controls.camera.moves.parse_path`); "" or "none" leaves
    the camera free. strength and mode: how the move is imposed, 0 or more and one of SIGNAL_MODES. bucket: motion
    bucket, 0..1023; default: 127, or 10 with a move. seed: of the noise. transition: "cut" or "cross-fade" at the start
    of the panel; ignored for the first one. fade: seconds of the cross-fade. title: for contact sheet and table.
    row: name of the panel in errors. given: further settings of `animate`, and fields of Steering, by name; pictures
    are paths.
    """

    image: str = ""
    seconds: float | None = None
    move: str | None = None
    bucket: float | None = None
    seed: int | None = None
    transition: str | None = None
    fade: float | None = None
    title: str = ""
    row: str = "panel 1"
    strength: float | None = None
    mode: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    def filled(self, defaults: "Panel") -> "Panel":
        """Return this panel with its open fields taken from `defaults`."""
        names = ("seconds", "move", "strength", "mode", "bucket", "seed", "transition", "fade")
        given = {**defaults.given, **self.given}
        open_ = {name: getattr(defaults, name) for name in names if getattr(self, name) is None}
        return replace(self, given=given, **open_)

    def located(self, locate: Callable[[str], Path]) -> "Panel":
        """Return this panel with its further pictures at the paths that `locate` returns."""
        given = {k: located(locate, v, self.row) if k in FILES and v != "nano" else v for k, v in self.given.items()}
        return replace(self, given=given)

    @property
    def settings(self) -> dict[str, Any]:
        """The further settings of `animate`."""
        return {name: value for name, value in self.given.items() if name in SETTINGS}

    @property
    def steering(self) -> dict[str, Any]:
        """The fields of Steering, with pictures as paths."""
        return {k: v for k, v in self.given.items() if k not in SETTINGS and v is not None}


COLUMNS = tuple(one.name for one in fields(Panel) if one.name not in ("row", "given"))
NUMBERS = ("seconds", "bucket", "fade", "seed", "strength")


@dataclass(frozen=True)
class Board:
    """The panels in order, and the folder that contains their pictures."""

    panels: tuple[Panel, ...]
    folder: Path = Path()

    def picture_path(self, panel: Panel) -> Path:
        """Return the path of a panel's picture; raise FileNotFoundError with the row if there is none."""
        path = self.folder / panel.image
        if not path.is_file():
            name = quoted(panel.image or str(self.folder)).strip("'\"")
            raise FileNotFoundError(f"{panel.row}: picture {name} does not exist; check the name in the storyboard")
        return path


def read_board(path: str | Path) -> Board:
    """Read a .json or .csv file, or a folder of pictures: then one panel each, in the natural order of their names.

    Raises FileNotFoundError, or ValueError with the row for what is invalid.
    """
    path = Path(path)
    if path.is_dir():
        pictures = [entry for entry in path.iterdir() if entry.suffix.lower() in PICTURES]
        if not pictures:
            raise ValueError(f"folder {path} holds no pictures; put {', '.join(PICTURES)} files into it")
        ordered = sorted(pictures, key=natural_order)
        panels = (Panel(file.name, title=file.stem, row=f"panel {i}") for i, file in enumerate(ordered, 1))
        return Board(tuple(panels), path)
    if not path.exists():
        raise FileNotFoundError(f"storyboard {path} does not exist; give a .json or .csv file, or a folder of pictures")
    if path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"storyboard {path} is not a .json or .csv file or a folder; give one of these")
    text = read_text(path)
    panels = parse_json(text) if path.suffix.lower() == ".json" else parse_csv(text)
    for panel in panels:
        if not panel.image:
            raise ValueError(f"{panel.row} has no picture; fill in the column image")
    return Board(tuple(panel.located(lambda name: path.parent / name) for panel in panels), path.parent)


def parse_text(text: str) -> tuple[Panel, ...]:
    """Return the panels of a JSON or CSV text, recognised by its first character; () for an empty text."""
    if not text.strip():
        return ()
    return parse_json(text) if text.lstrip()[0] in "[{" else parse_csv(text)


def parse_json(text: str) -> tuple[Panel, ...]:
    """Return the panels of a list of objects with the columns as keys, or of {"panels": [...], "defaults": {...}}."""
    content = read_json(text, "the storyboard")
    defaults: Mapping = {}
    if isinstance(content, dict):
        unknown = sorted(set(content) - {"panels", "defaults"})
        if unknown:
            raise ValueError(f"the storyboard has an entry {quoted(unknown[0])}; use panels and defaults")
        content, defaults = content.get("panels"), content.get("defaults", {})
    if not isinstance(content, list) or not isinstance(defaults, dict):
        raise ValueError("the storyboard has no list of panels; write [{...}, {...}]")
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, dict):
            raise ValueError(f'panel {number} is {quoted(entry)}, not an object; write {{"image": "name.png"}}')
    return _panels(content, [f"panel {number}" for number in range(1, len(content) + 1)], defaults)


def parse_csv(text: str) -> tuple[Panel, ...]:
    """Return the panels of a CSV text: a heading of column names, then one row for each panel."""
    _, rows = read_table(text, "the storyboard")
    return _panels([cells for _, cells in rows], [where for where, _ in rows], {})


def _panels(entries: Sequence[Mapping], rows: Sequence[str], defaults: Mapping) -> tuple[Panel, ...]:
    if not entries:
        raise ValueError("the storyboard has 0 panels; give at least 1")
    shared = _by_column(defaults, "the entry defaults")
    return tuple(_panel(_by_column(entry, row), shared, row) for entry, row in zip(entries, rows, strict=True))


def _not_for_panels(name: str) -> str:
    """Return why a setting of `animate` cannot belong to one panel; "" if it can."""
    if name.startswith(("window", "extend")):
        return "how panels become longer than the model's clip is the same for the film, see --longer"
    return WHOLE_FILM.get(name, "")


def _by_column(entry: Mapping[str, Any], row: str) -> dict[str, Any]:
    """Return the values of an entry under the names of `COLUMNS` as text, and further settings as they are.

    "" stands for open ones.
    """
    named: dict[str, Any] = {}
    for column, value in entry.items():
        name = ALIASES.get(str(column).strip().lower(), str(column).strip().lower())
        if name not in COLUMNS and name not in FIELDS:
            raise ValueError(
                f"{row} has an unknown column {quoted(column)}; use {', '.join(COLUMNS)}, or a setting of animate"
            )
        if name in named:
            raise ValueError(f"{row} has {name} twice, the second as {quoted(column)}; remove one of the two columns")
        if name not in COLUMNS:
            reason = _not_for_panels(name)
            if reason:
                raise ValueError(f"{row} has a column {name}, but {reason}; remove the column")
            named[name] = "" if value is None else value
            continue
        if isinstance(value, bool | list | dict):
            kind = "number, such as 2" if name in NUMBERS else 'text, such as "name.png"'
            raise ValueError(f"{row}: {name} is {quoted(value)}; write a {kind}")
        named[name] = "" if value is None else str(value).strip()
    return named


def _panel(own: Mapping[str, Any], shared: Mapping[str, Any], row: str) -> Panel:
    """Return the checked panel of its own values and those of the entry `defaults`."""
    filled: dict[str, Any] = {name: value for name, value in {**shared, **own}.items() if value not in ("", [])}
    more = {name: parse_setting(name, value, row) for name, value in filled.items() if name not in COLUMNS}
    given = {name: value for name, value in filled.items() if name in COLUMNS}
    for name in NUMBERS:
        if name in given:
            given[name] = _number(given[name], name, row)
    given = _transition(given, row)
    if given.get("transition") == "cut" and given.get("fade"):
        if own.get("fade") or own.get("transition", "").lower() not in ("", "cut"):
            raise ValueError(
                f"{row}: fade is {given['fade']:g} s, but a cut has no fade; leave it empty, or write cross-fade"
            )
        del given["fade"]  # the shared value is for panels that cross-fade
    return check_panel(Panel(**given, row=row, given=more))


def _transition(given: dict[str, Any], row: str) -> dict[str, Any]:
    """Split a transition with a length, such as "cross-fade 0.5", into transition and fade."""
    if "transition" not in given:
        return given
    word, _, length = given["transition"].lower().partition(" ")
    if word not in TRANSITIONS:
        raise ValueError(f"{row}: the transition {quoted(given['transition'])} is unknown; use cut or cross-fade")
    if length.strip():
        given = {"fade": _number(length.strip(), "fade", row), **given}
    return {**given, "transition": TRANSITIONS[word]}


def check_panel(panel: Panel) -> Panel:
    """Return the panel with move "none" as ""; raise ValueError with its row for an invalid number or move."""
    limits = (
        ("seconds", 0.01, 3600, "2"),
        ("bucket", 0, 1023, "127"),
        ("fade", 0, 3600, "0.5"),
        ("strength", 0, 10, "1"),
    )
    for name, low, high, good in limits:
        value = getattr(panel, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{panel.row}: {name} is {value:g}, outside {low:g} to {high:g}; use about {good}")
    if panel.mode is not None and panel.mode not in SIGNAL_MODES:
        raise ValueError(
            f"{panel.row}: the camera mode {quoted(panel.mode)} is unknown; use one of {', '.join(SIGNAL_MODES)}"
        )
    try:
        if panel.seed is not None:
            check_seed(panel.seed)
        if panel.move and panel.move != "none":
            parse_path(panel.move)
    except ValueError as error:
        raise ValueError(f"{panel.row}: {error}") from None
    return replace(panel, move="" if panel.move == "none" else panel.move)


def _number(text: str, name: str, row: str) -> float | int:
    try:
        return int(text) if name == "seed" else float(text.replace(",", "."))
    except ValueError:
        kind = "whole number" if name == "seed" else "number"
        raise ValueError(f"{row}: {name} is {quoted(text)}, not a {kind}; write one, such as 2") from None
