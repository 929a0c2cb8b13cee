"""`python -m tools.help.translations` lists missing and outdated translations; --accept marks them as current.

A translated page in tools/help/text/LANGUAGE holds the texts of its node and its prose. Beside the pages, sources.json
stores a digest of the English text of each translation. When the English changes, its translation is reported until
someone has compared both and accepted it.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from .prose import LOCALES, PROSE, node_definitions, pages_of, read_page
from .tables import EMBEDDED, entries, node_class, node_ids

SPECIAL = "@{}|"  # the frontend's message format gives these a meaning, and escapes them differently in old and new
HAN = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"(?<![A-Za-z])\d+(?:\.\d+)?")
SHAPE = {
    "headings": re.compile(r"^#+ ", re.MULTILINE),
    "lists": re.compile(r"^ *(?:-|\d+\.) ", re.MULTILINE),
    "links": re.compile(r"\]\(([^)\s]+)\)"),
    "code": re.compile(r"`[^`\n]+`"),
}
# Names that Chinese users write so too.
KEPT = {"VAE", "JSON", "CSV", "LoRA", "Sigma", "Sigmas", "Latent"}


def english() -> dict[str, str]:
    """Return every English text of nodes and pages by its path, such as SVDReelPlan.inputs.steps.tooltip."""
    found = {}
    for node_id in node_ids():
        node = node_class(node_id)
        found[f"{node_id}.display_name"] = node.DISPLAY_NAME
        found[f"{node_id}.description"] = node.DESCRIPTION
        for name, spec, _ in entries(node):
            found[f"{node_id}.inputs.{name}.name"] = name
            found[f"{node_id}.inputs.{name}.tooltip"] = spec[1]["tooltip"]
        for number, (name, tooltip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)):
            found[f"{node_id}.outputs.{number}.name"] = name
            found[f"{node_id}.outputs.{number}.tooltip"] = tooltip
        for category in node.CATEGORY.split("/"):
            found[f"nodeCategories.{category}"] = category
    return found | _pages("en")


def translated(language: str) -> dict[str, str]:
    """Return every text of a language by the same paths, including texts of unknown nodes."""
    folder = LOCALES / language
    strings = dict(_leaves(json.loads(node_definitions(language)))) | dict(_leaves(_read(folder / "main.json")))
    return strings | _pages(language)


def faults(language: str) -> list[str]:
    """Return what is missing, left over, untranslated, unreadable for the frontend, or outdated."""
    sources, texts, accepted = english(), translated(language), _read(_record(language))
    found = [f"{path} is missing" for path in sources if not texts.get(path, "").strip()]
    found += [f"{path} belongs to nothing" for path in texts if path not in sources]
    for path, text in texts.items():
        if path in sources and text.strip():
            found += [f"{path} {fault}" for fault in _faults_of(path, sources[path], text)]
            if _follows(path) and accepted.get(path) != digest(sources[path]):
                found.append(f"{path} follows an older English; bring it up to date, then --accept {path}")
    found += [f"{path} is in sources.json but no longer exists" for path in accepted if path not in sources]
    return found + option_faults(language)


def option_faults(language: str) -> list[str]:
    """Return options of widgets that options.json neither translates nor keeps as they are, and what it has besides."""
    texts = _read(PROSE / language / "options.json")
    known = {**texts["translated"], **dict.fromkeys(texts["kept"], "")}
    chosen = {value for node_id in node_ids() for value in options_of_node(node_id)}
    found = [f"options.{value} is missing from options.json" for value in sorted(chosen - set(known))]
    found += [f"options.{value} belongs to no widget" for value in sorted(set(known) - chosen)]
    return found + [
        f"options.{value} is not translated" for value in texts["translated"] if not HAN.search(known[value])
    ]


def options_of_node(node_id: str) -> Iterator[str]:
    """Yield the options of a node's widgets, without names of files."""
    for _, (kind, *_), _ in entries(node_class(node_id)):
        if isinstance(kind, (list, tuple)):
            files = any(str(value).endswith(EMBEDDED) for value in kind)
            yield from (str(value) for value in kind if not files or value == "none")


def accept(language: str, paths: list[str]) -> None:
    """Mark translations as current, by path or the beginning of one; "all" marks all."""
    sources, texts, kept = english(), translated(language), _read(_record(language))
    for path in sources:
        if (
            path in texts
            and _follows(path)
            and any(f"{path}.".startswith(f"{wanted}.") or wanted == "all" for wanted in paths)
        ):
            kept[path] = digest(sources[path])
    ordered = {path: kept[path] for path in sources if path in kept and _follows(path)}
    _record(language).write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8", newline="\n")


def digest(text: str) -> str:
    """Return eight hexadecimal digits that change with the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _follows(path: str) -> bool:
    """Return whether the English at a path can change; a renamed input or category has another path."""
    return not re.search(r"\.inputs\.\w+\.name$|^nodeCategories\.", path)


def _faults_of(path: str, source: str, text: str) -> Iterator[str]:
    if not HAN.search(text) and text not in KEPT:
        yield "is not translated"
    lost = set(NUMBER.findall(source)) - set(NUMBER.findall(text))
    if lost:
        yield f"lacks the numbers {', '.join(sorted(lost))} of the English"
    if path.startswith("pages."):
        for name, pattern in SHAPE.items():
            if sorted(pattern.findall(source)) != sorted(pattern.findall(text)):
                yield f"differs from the English in its {name}"
        yield from (f"has bold that Markdown does not close: {words}" for words in _open_bold(text))
    else:
        yield from (f"contains {sign}, which means something to the frontend" for sign in SPECIAL if sign in text)


def _open_bold(text: str) -> Iterator[str]:
    """Yield bold text that Markdown does not close, because it ends in punctuation directly before a word."""
    for line in text.splitlines():
        parts = line.split("**")
        for bold, after in zip(parts[1::2], parts[2::2], strict=False):
            if re.search(r"\W$", bold) and re.match(r"\w", after):
                yield bold


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(tree, dict):
        yield path, tree if isinstance(tree, str) else repr(tree)
        return
    for key, branch in tree.items():
        yield from _leaves(branch, f"{path}.{key}" if path else key)


def _pages(language: str) -> dict[str, str]:
    return {f"pages.{node_id}": read_page(node_id, language).prose for node_id in pages_of(language)}


def _record(language: str) -> Any:
    return PROSE / language / "sources.json"


def _read(path: Any) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.help.translations", description=__doc__)
    parser.add_argument("--language", default="zh", help="folder of the language (zh)")
    parser.add_argument("--accept", nargs="+", metavar="PATH", default=[], help="paths or their beginnings, or all")
    asked = parser.parse_args()
    if asked.accept:
        accept(asked.language, asked.accept)
    listed = faults(asked.language)
    print("\n".join(listed) or "everything is translated")
    sys.exit(bool(listed))
