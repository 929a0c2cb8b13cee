"""Modules of other programs that a test file names at its top, imported when a test first uses them.

Every process of a run collects all files, and diffusers with transformers takes seconds to import.
"""

import importlib
import importlib.util
from typing import Any

import pytest


class ImportedLater:
    """Stands for a module; its attributes import it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def imported_later(name: str) -> ImportedLater:
    """Return a module that is imported on first use; the tests of the calling file are skipped where it is absent."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    return ImportedLater(name)
