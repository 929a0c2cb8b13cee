"""Tables and JSON as people save them: rows, each with the place where its reader finds it. Knows no columns."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SEPARATORS = ",;\t"


class JSONFault(ValueError):
    """What is no JSON, or says a key twice."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a mark in front."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; save it as UTF-8") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give one file") from None


def read_table(text: str, what: str, of: str = "") -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The heading in small letters, and the rows below it: where each stands, as spreadsheets count, and its cells.

    Commas, semicolons or tabs separate. Empty rows are left out, but counted. `what` names the table in errors, `of`
    is put behind "row 3".
    """
    # Quotes that do not close would swallow rows: `strict` refuses them.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(reader, 1)]
    except csv.Error as error:
        raise ValueError(f"{what} is no table ({error}); check the quotes around its texts") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        return [], []
    heading = [name.lower() for name in rows[0][1]]
    twice = first_repeated(filter(None, heading))
    if twice is not None:
        raise ValueError(f"{what} has two columns {twice!r}; remove one of them")
    found = []
    for number, row in rows[1:]:
        where = f"row {number}{of}"
        if any(row[len(heading) :]):
            raise ValueError(
                f"{where} has {len(row)} values for {len(heading)} columns; put texts with commas into quotes"
            )
        cells = dict(zip(heading, row, strict=False))
        if cells.pop("", ""):
            raise ValueError(f"{where} has a value in a column without a name; name the column in the heading")
        found.append((where, cells))
    return [name for name in heading if name], found


def read_json(text: str, what: str) -> Any:
    """What a JSON text holds; a key that an object has twice is refused, since one of the two would be lost."""

    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = first_repeated(name for name, _ in pairs)
        if twice is not None:
            raise JSONFault(f"{what} says {twice!r} twice in one object; remove one of them")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=whole)
    except JSONFault:
        raise
    except (ValueError, RecursionError) as error:
        raise JSONFault(f"{what} is no JSON ({error}); check commas and quotes there") from None


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _separator(text: str) -> str:
    """What separates the words of the heading, the first line that says anything."""
    heading = next((line for line in text.splitlines() if line.strip(SEPARATORS + " ")), "")
    return max(SEPARATORS, key=heading.count)
