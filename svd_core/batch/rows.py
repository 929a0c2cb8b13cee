"""From a folder of pictures, a CSV table or a JSON list to rows: a picture and its settings. Knows no models."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ..animate import AnimateSettings

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LISTS = ("clips", "shots")
"""Names under which a JSON object may hold its rows; `settings` beside them holds what all rows share."""

_FIELDS = {field.name: get_args(field.type) or (field.type,) for field in fields(AnimateSettings)}


@dataclass(frozen=True)
class BatchRow:
    """One clip to be made: its name (of the file, unique), the picture, and settings not yet resolved for a model."""

    name: str
    image: Path
    settings: AnimateSettings


def read_rows(path: str | Path, shared: Mapping[str, Any] | None = None) -> list[BatchRow]:
    """Rows of a folder of pictures, a .csv table or a .json file, in order.

    A table has a column `image` (relative to the table), may have `name`, and any field of AnimateSettings; an empty
    cell means the shared setting. A JSON file is a list of such objects, or an object with that list under `clips` or
    `shots` and common settings under `settings`. `shared` settings count where a row has none. Raises
    FileNotFoundError, or ValueError that names the row.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no batch at {path}; give a folder of pictures, a .csv or a .json file")
    common = {name: parse_setting(name, value, "the shared settings") for name, value in (shared or {}).items()}
    if path.is_dir():
        found = [{"image": str(file)} for file in sorted(path.iterdir()) if file.suffix.lower() in PICTURES]
        kinds = ", ".join(PICTURES)
        empty = f"{path} holds no pictures ({kinds})"
    elif path.suffix.lower() == ".csv":
        found, empty = _table(path), f"{path} has no rows below its header"
    elif path.suffix.lower() == ".json":
        found, more = _storyboard(path)
        more = {name: parse_setting(name, value, f"settings of {path.name}") for name, value in more.items()}
        common, empty = more | common, f"{path} has no rows"
    else:
        raise ValueError(f"{path} is no batch; give a folder of pictures, a .csv or a .json file")
    if not found:
        raise ValueError(f"{empty}; give at least one picture")
    return _checked(_row(cells, number, path, common) for number, cells in enumerate(found, 1))


def parse_setting(name: str, value: Any, where: str) -> Any:
    """The value of one field of AnimateSettings from text or JSON; ValueError tells `where` it stands."""
    if name not in _FIELDS:
        raise ValueError(f"{where}: setting {name!r} is unknown; use one of {', '.join(_FIELDS)}")
    kinds = _FIELDS[name]
    if value is None:
        return None
    if isinstance(value, list) and any(getattr(kind, "__origin__", None) is tuple for kind in kinds):
        return tuple(value)
    text = str(value).strip()
    for kind, spoken in ((str, ""), (int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise ValueError(f"{where}: {name} is {value!r}, but must be {spoken}") from None
    raise ValueError(f"{where}: {name} cannot be set in a batch")


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="")
        rows = list(reader)
    if "image" not in (reader.fieldnames or ()):
        raise ValueError(f"{path} has no column `image`; name the columns in the first line, such as image,frames,seed")
    for number, row in enumerate(rows, 1):
        if "" in row:
            raise ValueError(f"row {number} of {path.name} has more cells than the header; quote texts with commas")
    return [{name.strip(): text for name, text in row.items() if (text or "").strip()} for row in rows]


def _storyboard(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); correct it there") from None
    shared: dict[str, Any] = {}
    if isinstance(content, dict):
        shared = content.get("settings") or {}
        content = next((content[name] for name in LISTS if name in content), None)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content) or type(shared) is not dict:
        raise ValueError(f'{path} is no list of clips; write [{{"image": "photo.jpg", "seed": 1}}, ...]')
    return content, shared


def _row(cells: Mapping[str, Any], number: int, path: Path, common: Mapping[str, Any]) -> BatchRow:
    where = f"row {number} of {path.name}"
    if not cells.get("image"):
        raise ValueError(f"{where} has no image; name the picture to start from")
    image = Path(str(cells["image"]).strip())
    image = image if path.is_dir() or image.is_absolute() else path.parent / image
    given = {k: parse_setting(k, v, where) for k, v in cells.items() if k not in ("image", "name")}
    name = str(cells.get("name") or image.stem).strip()
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
        raise ValueError(f"{where}: name {name!r} cannot be a file name; use letters, digits, - and _")
    return BatchRow(name, image, AnimateSettings(**common | given))


def _checked(rows: Iterable[BatchRow]) -> list[BatchRow]:
    """The rows, once no two of them would write the same clip, on file systems that ignore case too."""
    seen: dict[str, BatchRow] = {}
    for row in rows:
        other = seen.setdefault(row.name.casefold(), row)
        if other is not row:
            raise ValueError(
                f"two rows would share the clip {row.name} ({other.image.name} and {row.image.name}); give them names"
            )
    return list(seen.values())
