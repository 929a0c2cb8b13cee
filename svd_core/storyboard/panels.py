"""What a storyboard says: its panels, from a folder of pictures, a JSON or CSV text, or nothing but pictures."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..controls.camera.moves import parse_path
from ..sampling.noise import check_seed
from .tables import read_json, read_table, read_text

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TRANSITIONS = {"cut": "cut", "cross-fade": "cross-fade", "crossfade": "cross-fade", "dissolve": "cross-fade"}
ALIASES = {
    "camera": "move",
    "motion_bucket": "bucket",
    "transition_seconds": "fade",
    "file": "image",
    "picture": "image",
    "name": "title",
}


@dataclass(frozen=True)
class Panel:
    """One panel. None means what the board says for all.

    image: file name, or the number of a picture in a batch, counted from 1. seconds: of the film, above 0; without it
    the model's own clip length. move: camera path in words (`motion.moves.parse_path`), "" or "none" for a free clip.
    bucket: motion bucket. seed: of the noise. transition: how the panel begins, "cut" or "cross-fade"; that of the
    first is not used. fade: seconds of the cross-fade. title: for sheet and table. row: what errors call it.
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

    def filled(self, defaults: "Panel") -> "Panel":
        """This panel with what it leaves open taken from another."""
        names = ("seconds", "move", "bucket", "seed", "transition", "fade")
        return replace(self, **{name: getattr(defaults, name) for name in names if getattr(self, name) is None})


COLUMNS = tuple(field.name for field in fields(Panel) if field.name != "row")
NUMBERS = ("seconds", "bucket", "fade", "seed")


@dataclass(frozen=True)
class Board:
    """The panels in order, and the folder that their file names start from."""

    panels: tuple[Panel, ...]
    folder: Path = Path()

    def picture_path(self, panel: Panel) -> Path:
        """Where the picture of a panel lies; FileNotFoundError naming the row where it does not."""
        path = self.folder / panel.image
        if not path.is_file():
            raise FileNotFoundError(f"{panel.row}: picture {path} does not exist; check the name in the storyboard")
        return path


def read_board(path: str | Path) -> Board:
    """The board of a .json or .csv file, or of a folder of pictures, one panel each in the order of their names."""
    path = Path(path)
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if entry.suffix.lower() in PICTURES]
        if not names:
            raise ValueError(f"folder {path} holds no pictures; put {', '.join(PICTURES)} files into it")
        ordered = sorted(names, key=_natural)
        return Board(tuple(Panel(name, title=Path(name).stem, row=f"panel {i}") for i, name in enumerate(ordered, 1)),
                     path)  # fmt: skip
    if not path.exists():
        raise FileNotFoundError(f"storyboard {path} does not exist; give a .json or .csv file, or a folder of pictures")
    if path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"storyboard {path} is no .json or .csv file and no folder; give one of these")
    text = read_text(path)
    panels = parse_json(text) if path.suffix.lower() == ".json" else parse_csv(text)
    for panel in panels:
        if not panel.image:
            raise ValueError(f"{panel.row} names no picture; fill in the column image")
    return Board(panels, path.parent)


def parse_text(text: str) -> tuple[Panel, ...]:
    """The panels of JSON or CSV, told apart by the first character; none of an empty text."""
    if not text.strip():
        return ()
    return parse_json(text) if text.lstrip()[0] in "[{" else parse_csv(text)


def parse_json(text: str) -> tuple[Panel, ...]:
    """A list of objects with the columns as names, or {"panels": [...], "defaults": {...}}."""
    content = read_json(text, "the storyboard")
    defaults: Mapping = {}
    if isinstance(content, dict):
        unknown = sorted(set(content) - {"panels", "defaults"})
        if unknown:
            raise ValueError(f"the storyboard has an entry {unknown[0]!r}; it takes panels and defaults")
        content, defaults = content.get("panels"), content.get("defaults", {})
    if not isinstance(content, list) or not isinstance(defaults, dict):
        raise ValueError("the storyboard holds no list of panels; write [{...}, {...}]")
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, dict):
            raise ValueError(f'panel {number} is {entry!r}, no object; write {{"image": "name.png"}}')
    return _panels(content, [f"panel {number}" for number in range(1, len(content) + 1)], defaults)


def parse_csv(text: str) -> tuple[Panel, ...]:
    """A heading with the names of the columns, then a row for each panel; comma, semicolon or tab between them."""
    _, rows = read_table(text, "the storyboard")
    return _panels([cells for _, cells in rows], [where for where, _ in rows], {})


def _panels(entries: Sequence[Mapping], rows: Sequence[str], defaults: Mapping) -> tuple[Panel, ...]:
    if not entries:
        raise ValueError("the storyboard has 0 panels; give at least 1")
    shared = _named(defaults, "the entry defaults")
    return tuple(_panel(_named(entry, row), shared, row) for entry, row in zip(entries, rows, strict=True))


def _named(entry: Mapping[str, Any], row: str) -> dict[str, str]:
    """The texts of an entry under the names of `COLUMNS`; "" is what is left open."""
    named: dict[str, str] = {}
    for column, value in entry.items():
        name = ALIASES.get(str(column).strip().lower(), str(column).strip().lower())
        if name not in COLUMNS:
            raise ValueError(f"{row} has a column {column!r}, which is unknown; use {', '.join(COLUMNS)}")
        if name in named:
            raise ValueError(f"{row} says {name} twice, the second time as {column!r}; remove one of the two columns")
        if isinstance(value, bool | list | dict):
            kind = "number, such as 2" if name in NUMBERS else 'text, such as "name.png"'
            raise ValueError(f"{row}: {name} is {value!r}, but must be a {kind}")
        named[name] = "" if value is None else str(value).strip()
    return named


def _panel(own: Mapping[str, str], shared: Mapping[str, str], row: str) -> Panel:
    """One checked panel of what its row says and what it leaves to the entry `defaults`."""
    given: dict[str, Any] = {name: text for name, text in {**shared, **own}.items() if text}
    for name in NUMBERS:
        if name in given:
            given[name] = _number(given[name], name, row)
    given = _transition(given, row)
    if given.get("transition") == "cut" and given.get("fade"):
        if own.get("fade") or own.get("transition", "").lower() not in ("", "cut"):
            raise ValueError(
                f"{row}: fade is {given['fade']:g} s, but a cut has none; leave it empty, or write cross-fade"
            )
        del given["fade"]  # what all panels share is for those that cross-fade
    return check_panel(Panel(**given, row=row))


def _transition(given: dict[str, Any], row: str) -> dict[str, Any]:
    """A transition in words, such as "cross-fade 0.5", taken apart."""
    if "transition" not in given:
        return given
    word, _, length = given["transition"].lower().partition(" ")
    if word not in TRANSITIONS:
        raise ValueError(f"{row}: the transition {given['transition']!r} is unknown; use cut or cross-fade")
    if length.strip():
        given = {"fade": _number(length.strip(), "fade", row), **given}
    return {**given, "transition": TRANSITIONS[word]}


def check_panel(panel: Panel) -> Panel:
    """The panel; ValueError naming its row for a number or a move that is illegal."""
    limits = (("seconds", 0.01, 3600, "2"), ("bucket", 0, 1023, "127"), ("fade", 0, 3600, "0.5"))
    for name, low, high, good in limits:
        value = getattr(panel, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{panel.row}: {name} is {value:g}, outside {low:g} to {high:g}; use about {good}")
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
        raise ValueError(f"{row}: {name} is {text!r}, no {kind}; write one, such as 2") from None


def _natural(name: str) -> list:
    """Sorts panel 10 behind panel 9."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
