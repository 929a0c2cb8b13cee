"""Read the rows of a batch, each a picture with its settings, from a folder, a CSV table or a JSON list."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import printable, quoted
from ..pipelines.by_name import located, parse_setting, path_of
from ..pipelines.settings import SETTINGS, AnimateSettings
from ..pipelines.steered import FILES
from ..storyboard.tables import first_repeated, read_json, read_table, read_text

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LISTS = ("clips", "shots")
"""Keys under which a JSON object may hold its rows; `settings` beside them holds what all rows share."""

FORBIDDEN = frozenset('/\\:*?"<>|\0')
"""Characters that no file name may have on some system."""

Entry = tuple[str, dict[str, Any]]
"""A row as it was read: its place for error messages, and its cells."""


@dataclass(frozen=True)
class BatchRow:
    """One clip to make: a unique file name, the picture, and settings not yet resolved for a model.

    steering: fields of `pipelines.steered.Steering` by name, with pictures as paths.
    where: the beginning of error messages, such as "row 3 of shots.csv: ", with the heading as row 1.
    """

    name: str
    image: Path
    settings: AnimateSettings
    where: str = ""
    steering: Mapping[str, Any] = field(default_factory=dict)


def read_rows(
    path: str | Path, shared: Mapping[str, Any] | None = None, *, locate: Callable[[str], Path] | None = None
) -> list[BatchRow]:
    """Return the rows of a folder of pictures, a .csv table or a .json file, in order.

    A table has a column `image` (a path relative to the table), and may have `name`, any field of AnimateSettings, and
    any field of Steering, whose pictures are paths like `image`, several of them separated by "|". An empty cell takes
    the shared setting. A JSON file is a list of such objects, or an object with that list under
    `clips` or `shots` and common settings under `settings`. `shared` settings apply where a row gives none. locate:
    returns the file for the path of a picture in a table; None takes it relative to the table. Raises
    FileNotFoundError, or ValueError that names the row.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"batch input {path} does not exist; give a folder of pictures, a .csv or a .json file")
    common = {name: parse_setting(name, value, "the shared settings") for name, value in (shared or {}).items()}
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in PICTURES]
        found = [(str(file), {"image": str(file)}) for file in files]
        empty = f"{path} has no pictures ({', '.join(PICTURES)})"
    elif path.suffix.lower() == ".csv":
        found, empty = _table(path), f"{path} has no rows below its header"
    elif path.suffix.lower() == ".json":
        found, more = _storyboard(path)
        more = {name: parse_setting(name, value, f"settings of {path.name}") for name, value in more.items()}
        common, empty = more | common, f"{path} has no rows"
    else:
        raise ValueError(f"batch input {path} has an unknown type; give a folder of pictures, a .csv or a .json file")
    if not found:
        raise ValueError(f"{empty}; give at least one picture")
    if path.is_dir():
        return _checked(_row(cells, where, Path, common, start="") for where, cells in found)
    locate = locate or (lambda cell: path.parent / cell)
    return _checked(_row(cells, where, locate, common, start=f"{where}: ") for where, cells in found)


def _table(path: Path) -> list[Entry]:
    heading, rows = read_table(read_text(path), str(path), f" of {path.name}")
    if not heading:
        raise ValueError(f"{path} is empty; name the columns in the first line, such as image,frames,seed")
    if "image" not in heading:
        raise ValueError(f"{path} has no column `image`; name the columns in the first line, such as image,frames,seed")
    return [(where, {name: text for name, text in cells.items() if text}) for where, cells in rows]


def _storyboard(path: Path) -> tuple[list[Entry], dict[str, Any]]:
    content = read_json(read_text(path), str(path))
    shared: dict[str, Any] = {}
    if isinstance(content, dict):
        unknown = sorted(set(content) - {*LISTS, "settings"})
        if unknown:
            raise ValueError(f"{path} has an unknown key {quoted(unknown[0])}; use settings, and clips or shots")
        if set(LISTS) <= set(content):
            raise ValueError(f"{path} has both clips and shots; put all rows under one of them")
        shared = content.get("settings") or {}
        content = next((content[name] for name in LISTS if name in content), None)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content) or type(shared) is not dict:
        raise ValueError(f'{path} is not a list of clips; write [{{"image": "photo.jpg", "seed": 1}}, ...]')
    return [(f"entry {number} of {path.name}", row) for number, row in enumerate(content, 1)], shared


def _row(
    cells: Mapping[str, Any], where: str, locate: Callable[[str], Path], common: Mapping[str, Any], *, start: str
) -> BatchRow:
    """Return a row with its pictures at the files that `locate` returns.

    start: of later errors; empty for a row of a folder, which is only a picture, and errors name its file.
    """
    cells = _named(cells, where)
    for key, kinds in (("image", str), ("name", str | int)):
        if not isinstance(cells.get(key) or "", kinds):
            raise ValueError(f'{where}: {key} must be text, such as "photo.jpg" (got {quoted(cells[key])})')
    if not (cells.get("image") or "").strip():
        raise ValueError(f"{where} has no image; give the path of the start picture")
    image = path_of(locate, cells["image"].strip(), where)
    given = common | {k: parse_setting(k, v, where) for k, v in cells.items() if k not in ("image", "name")}
    steered = {k: v for k, v in given.items() if k not in SETTINGS and v is not None}
    steering = {k: located(locate, v, where) if k in FILES and v != "nano" else v for k, v in steered.items()}
    settings = {k: v for k, v in given.items() if k in SETTINGS}
    name = str(cells.get("name") or image.stem).strip()
    if not name or name.startswith(".") or not FORBIDDEN.isdisjoint(name):
        raise ValueError(f"{where}: name {printable(name)!r} cannot be a file name; use letters, digits, - and _")
    return BatchRow(
        name, image, AnimateSettings(**settings), start, {k: v for k, v in steering.items() if v is not None}
    )


def _named(cells: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the cells with names in lower case without blanks. Raises ValueError for a name given twice."""
    names = [str(name).strip().lower() for name in cells]
    twice = first_repeated(names)
    if twice is not None:
        raise ValueError(f"{where} gives {quoted(twice)} twice; remove one of them")
    return dict(zip(names, cells.values(), strict=True))


def _checked(rows: Iterable[BatchRow]) -> list[BatchRow]:
    """Return the rows. Raises ValueError for two rows with one clip, also where file names ignore case."""
    seen: dict[str, BatchRow] = {}
    for row in rows:
        other = seen.setdefault(row.name.casefold(), row)
        if other is not row:
            raise ValueError(
                f"two rows would write the clip {printable(row.name)} ({printable(other.image.name)} and "
                f"{printable(row.image.name)}); give each row a name of its own"
            )
    return list(seen.values())
