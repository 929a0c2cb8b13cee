"""The lists of inputs and outputs on a help page, from the node's class and its translations.

They are lists and not tables, because the help panel is narrow: a name with its meaning, the type small below.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from tools.workflows.library import load_pack

from .prose import PROSE, page_source, read_page

EMBEDDED = "(embedded)"  # choices that list files besides those of the pack have such an entry


@dataclass
class Texts:
    """The texts of one node in one language; English replaces what the language lacks."""

    node_id: str
    language: str
    entry: dict[str, Any] = field(default_factory=dict)

    def get(self, english: str, *path: str) -> str:
        """Return the text at a path of the node's definition, such as ("inputs", "seed", "tooltip")."""
        if self.language == "en" or not english:
            return english
        found: Any = self.entry
        for key in path:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, str) and found else english


def node_ids() -> list[str]:
    """Return the ids of all nodes, in the order of the pack."""
    return list(load_pack().NODE_CLASS_MAPPINGS)


def node_class(node_id: str) -> type:
    """Return the class of a node."""
    return load_pack().NODE_CLASS_MAPPINGS[node_id]


def texts_of(node_id: str, language: str) -> Texts:
    """Return the texts of a node in a language; the English ones are in the node's class."""
    there = language != "en" and page_source(node_id, language).exists()
    return Texts(node_id, language, read_page(node_id, language).texts if there else {})


def display_name(texts: Texts) -> str:
    """Return the name of the node in the editor."""
    return texts.get(node_class(texts.node_id).DISPLAY_NAME, "display_name")


def entries(node: type) -> list[tuple[str, tuple, bool]]:
    """Return name, declaration and whether it is optional, for every visible input."""
    groups = node.INPUT_TYPES()
    shown = [(group, groups.get(group, {})) for group in ("required", "optional")]
    return [(name, spec, group == "optional") for group, inputs in shown for name, spec in inputs.items()]


def words_of(language: str) -> dict[str, str]:
    """Return the words that the lists themselves use."""
    return json.loads((PROSE / language / "words.json").read_text(encoding="utf-8"))


def options_of(language: str) -> dict[str, str]:
    """Return the translations of options, such as crop; names of formats and solvers have none."""
    path = PROSE / language / "options.json"
    return json.loads(path.read_text(encoding="utf-8"))["translated"] if path.exists() else {}


def parameters(texts: Texts) -> str:
    """Return both lists of a node."""
    node, words = node_class(texts.node_id), words_of(texts.language)
    meanings = options_of(texts.language)
    rows = [f"**{words['inputs']}**", ""]
    for name, spec, optional in entries(node):
        options = spec[1] if len(spec) > 1 else {}
        shown = texts.get(name, "inputs", name, "name")
        meaning = texts.get(options.get("tooltip", ""), "inputs", name, "tooltip")
        rows.append(listed(words, name, shown, meaning, _values(words, meanings, spec[0], options, optional)))
    rows += ["", f"**{words['outputs']}**", ""]
    names = zip(node.RETURN_NAMES, node.RETURN_TYPES, node.OUTPUT_TOOLTIPS, strict=True)
    for number, (name, kind, tooltip) in enumerate(names):
        shown = texts.get(name, "outputs", str(number), "name")
        meaning = texts.get(tooltip, "outputs", str(number), "tooltip")
        rows.append(listed(words, name, shown, meaning, f"`{kind}`"))
    return "\n".join(rows)


def listed(words: dict[str, str], name: str, shown: str, meaning: str, values: str) -> str:
    """Return one entry: the name, as the language shows it, the meaning, and below the type and values."""
    label = f"`{name}`" if shown == name else f"{cell(shown)} `{name}`"
    return f"- {label}{words['colon']}{cell(meaning)}<br><sub>{values}</sub>"


def _values(words: dict[str, str], meanings: dict[str, str], kind: Any, options: dict, optional: bool) -> str:
    """Return type, range and default of an input."""
    default = options.get("default")
    if isinstance(kind, (list, tuple)):
        choices = [_option(words, meanings, value) for value in kind]
        if any(str(value).endswith(EMBEDDED) for value in kind):
            # Other files of this machine do not belong on the page.
            own = [str(value) for value in kind if str(value).endswith(EMBEDDED) or value == "none"]
            choices = [*(_option(words, meanings, value) for value in own), words["files"]]
        parts = [words["separator"].join(choices), words["default"].format(value=f"`{default}`")]
    elif kind in ("INT", "FLOAT"):
        parts = [f"{kind} {words['span'].format(low=_number(options['min']), high=_number(options['max']))}"]
        if kind == "INT" and options.get("step", 1) != 1:
            parts.append(words["step"].format(size=_number(options["step"])))
        parts.append(words["default"].format(value=_number(default)))
    elif kind == "BOOLEAN":
        parts = [words["switch"], words["default"].format(value=words["on"] if default else words["off"])]
    elif kind == "STRING":
        parts = [kind, words["default"].format(value=f"`{default}`" if default else words["empty"])]
    else:
        parts = [f"`{kind}` {words['link']}"]
        if optional:
            parts.append(words["optional"])
    if options.get("advanced"):
        parts.append(words["advanced"])
    return words["end"].join(part.replace("\n", " ") for part in parts)


def _option(words: dict[str, str], meanings: dict[str, str], value: str) -> str:
    """Return an option as it is stored, and what it means."""
    return words["option"].format(value=f"`{value}`", meaning=meanings[value]) if value in meanings else f"`{value}`"


def _number(value: float) -> str:
    """Format a limit."""
    return "2^64 - 1" if value == 2**64 - 1 else f"{value:.12g}"


def cell(text: str) -> str:
    """Escape plain text for a line of Markdown, in a table as well."""
    text = " ".join(text.split())
    for sign in "\\|*_~<[":
        text = text.replace(sign, f"\\{sign}")
    return text
