"""Read CSV tables and JSON as people save them: rows with the place where each is found, for any set of columns."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import JsonError, parse_json, quoted

SEPARATORS = ",;\t"


class JSONFault(ValueError):
    """A text that is not JSON, or has a key twice in one object."""


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; save it as UTF-8") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give one file") from None


def read_table(text: str, what: str, of: str = "") -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Return the heading of a CSV text in small letters, and its rows: each with its place and its cells by column.

    Commas, semicolons or tabs separate cells. Rows are numbered as in spreadsheets; empty ones are skipped but counted.
    what: names the table in errors. of: follows "row 3" in them. Raises ValueError for a malformed table.
    """
    # `strict` refuses quotes that do not close; they would swallow rows.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(reader, 1)]
    except csv.Error as error:
        raise ValueError(f"{what} is not a CSV table ({error}); check the quotes around its texts") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        return [], []
    heading = [name.lower() for name in rows[0][1]]
    twice = first_repeated(filter(None, heading))
    if twice is not None:
        raise ValueError(f"{what} has two columns {quoted(twice)}; remove one of them")
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
    """Return the value of a JSON text. Raises JSONFault, also for a key that an object has twice."""

    try:
        return parse_json(text, unique=True)
    except JsonError as error:
        raise JSONFault(f"{what} cannot be read ({error}); check commas, quotes and names") from None


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs a second time, None if all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _separator(text: str) -> str:
    """Return the separator that the heading, the first line with content, has most of."""
    heading = next((line for line in text.splitlines() if line.strip(SEPARATORS + " ")), "")
    return max(SEPARATORS, key=heading.count)
