"""Reads the hand-written pages of `tools/help/text`: the prose, and in translations the node's own texts above it.

A translated page begins with the names and tooltips of its node, one a line, between two lines of `---`:

    display_name: NAME
    description: TEXT
    inputs.seed: NAME | TOOLTIP
    outputs.0: NAME | TOOLTIP

`locales/LANGUAGE/nodeDefs.json`, which ComfyUI reads, is written from them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.workflows.library import ROOT

PROSE = Path(__file__).resolve().parent / "text"
LANGUAGES = ("en", "zh")
LOCALES = ROOT / "locales"
FENCE = "---\n"
BETWEEN = " | "  # ComfyUI gives "|" a meaning in translations, so no text contains it


class PageError(ValueError):
    """A page that cannot be made from its prose."""


@dataclass(frozen=True)
class Page:
    """One hand-written page; `texts` is the node's entry in nodeDefs.json, empty for English."""

    prose: str
    texts: dict[str, Any] = field(default_factory=dict)


def page_source(node_id: str, language: str) -> Path:
    """Return the path of a hand-written page."""
    return PROSE / language / f"{node_id}.md"


def pages_of(language: str) -> list[str]:
    """Return the ids of all nodes with a page in a language."""
    return sorted(path.stem for path in (PROSE / language).glob("SVDReel*.md"))


def read_page(node_id: str, language: str) -> Page:
    """Return a page; PageError for a line of texts that cannot be read."""
    source = page_source(node_id, language)
    whole = source.read_text(encoding="utf-8")
    if not whole.startswith(FENCE):
        return Page(whole)
    head, fence, prose = whole.removeprefix(FENCE).partition(f"\n{FENCE}")
    if not fence:
        raise PageError(f"{source.name} has no line --- after its texts; add one")
    return Page(prose, _texts(head, source.relative_to(ROOT).as_posix()))


def node_definitions(language: str) -> str:
    """Return the text of `locales/LANGUAGE/nodeDefs.json`."""
    known = {node_id: read_page(node_id, language).texts for node_id in pages_of(language)}
    return json.dumps(known, indent=2, ensure_ascii=False) + "\n"


def _texts(head: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {"display_name": "", "description": "", "inputs": {}, "outputs": {}}
    for line in head.splitlines():
        path, colon, text = line.partition(": ")
        group, _, name = path.partition(".")
        if not colon or group not in found or bool(name) != isinstance(found[group], dict):
            raise PageError(f"{where} has the line {line!r}; write display_name, description, inputs.NAME or outputs.N")
        if not name:
            found[group] = text
        elif BETWEEN in text:
            found[group][name] = dict(zip(("name", "tooltip"), text.split(BETWEEN, 1), strict=True))
        else:
            raise PageError(f"{where}: {path} needs a name and a tooltip with {BETWEEN!r} between them")
    return found
