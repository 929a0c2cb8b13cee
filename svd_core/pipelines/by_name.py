"""Settings and steering given by name as text, as in the rows of a batch and the panels of a storyboard."""

import difflib
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ..files import printable, quoted
from .settings import SETTINGS
from .steered import FILES, Steering

YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

FIELDS = {name: setting.kinds for name, setting in SETTINGS.items()}
FIELDS |= {one.name: get_args(one.type) for one in fields(Steering)}
"""The types of all fields of AnimateSettings and Steering, by name."""


def parse_setting(name: str, value: Any, where: str) -> Any:
    """Return the value of a setting or of steering from text or JSON. Raises ValueError that begins with `where`.

    Pictures stay text: one path, or a list of paths.
    """
    if name not in FIELDS:
        raise ValueError(f"{where}: unknown setting {printable(name)!r}; {_near(name)}")
    if name in FILES:
        return _paths(name, value, where)
    kinds = FIELDS[name]
    if value is None:
        return None
    if isinstance(value, list) and any(getattr(kind, "__origin__", None) is tuple for kind in kinds):
        return tuple(value)
    text = str(value).strip()
    if bool in kinds:
        if text.lower() not in YES_NO:
            raise ValueError(f"{where}: {name} must be yes or no (got {quoted(value)})")
        return YES_NO[text.lower()]
    for kind, words in ((str, ""), (int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise ValueError(f"{where}: {name} must be {words} (got {quoted(value)})") from None
    raise ValueError(f"{where}: {name} cannot be given as text")


def _near(name: str) -> str:
    """Return the settings that an unknown name may mean; all of them would fill the screen."""
    close = difflib.get_close_matches(name[:100], FIELDS, n=3) or ["frames", "steps", "seed"]
    return f"use one of {len(FIELDS)} settings of animate, such as {', '.join(close)}"


def located(locate: Callable[[str], Path], value: str | list[str], where: str) -> str | list[str]:
    """Return the path or paths of a field as `locate` finds them, as text. Errors begin with `where`."""
    several = value if isinstance(value, list) else [value]
    found = [str(path_of(locate, one, where)) for one in several]
    return found if isinstance(value, list) else found[0]


def path_of(locate: Callable[[str], Path], text: str, where: str) -> Path:
    """Return the path of a cell; raise ValueError for one with the separators of another system."""
    path = locate(text)
    if "\\" in text and os.sep != "\\" and not os.path.exists(path):
        raise ValueError(
            f"{where}: {quoted(text)} has backslashes, which separate folders on Windows only; write "
            f"{quoted(text.replace(chr(92), '/'))}"
        )
    return path


def _paths(name: str, value: Any, where: str) -> str | list[str] | None:
    """Return the path or paths of a field of pictures; text may separate several by "|"."""
    several = value if isinstance(value, list) else str("" if value is None else value).split("|")
    if not all(isinstance(one, str) for one in several):
        raise ValueError(f'{where}: {name} must be a path, or a list of paths (got {quoted(value)}); write "photo.jpg"')
    found = [one.strip() for one in several if one.strip()]
    return (found if len(found) > 1 else found[0]) if found else None
