"""Tokens in file names, as ComfyUI's editor replaces them for its own save nodes: dates, and values of widgets.

The editor leaves the names of other nodes as they are, and prompts that are sent to the server are never changed there.
"""

import os
import re
import time
from typing import Any

TOKEN = re.compile(r"%([^%]+)%")
DATE_PART = re.compile(r"yyyy|yy|dd?|MM?|hh?|mm?|ss?")
ILLEGAL = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
IN_VALUES = re.compile(r'[<>:"|?*/\\\x00-\x1f\x7f]')  # a value never adds a folder
LONGEST = 230  # bytes of each part: file systems allow 255, and the host appends a number and the suffix
S_AND_R = "Node name for S&R"


def file_prefix(text: str, prompt: Any = None, extra: Any = None, now: time.struct_time | None = None) -> str:
    """Return a file-name prefix with its tokens replaced, without characters that some system forbids.

    %date:FORMAT% has the parts yyyy, yy, MM, dd, hh, mm and ss. %NODE.WIDGET% is the value of a widget in the prompt,
    of the node with that class, "Node name for S&R" or title. Other tokens stay, for the host. Parts between slashes
    are cut to LONGEST bytes.
    """

    def replaced(found: re.Match[str]) -> str:
        token = found[1]
        if token.startswith("date:"):
            return format_date(token.removeprefix("date:"), now or time.localtime())
        node, _, widget = token.partition(".")
        value = _widget_value(node, widget, prompt, extra) if widget else None
        return found[0] if value is None else IN_VALUES.sub("_", str(value))

    plain = ILLEGAL.sub("_", TOKEN.sub(replaced, text.strip()))
    plain = plain if os.name == "nt" else plain.replace("\\", "_")
    return "/".join(_cut(part) for part in plain.split("/"))


def format_date(text: str, now: time.struct_time) -> str:
    """Return a time in a format of ComfyUI's editor, such as yyyy-MM-dd."""
    parts = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def replaced(found: re.Match[str]) -> str:
        part = found[0]
        if part[0] == "y":
            return str(now.tm_year)[-len(part) :]
        return str(parts[part[0]]).zfill(len(part))

    return DATE_PART.sub(replaced, text)


def _widget_value(node: str, widget: str, prompt: Any, extra: Any) -> Any:
    """Return the value of a widget of the first node with a name; None where there is none, or where it is a link."""
    prompt = prompt if isinstance(prompt, dict) else {}
    for number in _numbers_of(node, prompt, extra):
        entry = prompt.get(str(number))
        value = entry.get("inputs", {}).get(widget) if isinstance(entry, dict) else None
        if isinstance(value, (str, int, float)):
            return value
    return None


def _numbers_of(name: str, prompt: dict, extra: Any) -> list[Any]:
    """Return the numbers of the nodes with a name: by "Node name for S&R", then class, then title."""
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    nodes = workflow.get("nodes") if isinstance(workflow, dict) else None
    nodes = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    named = [node.get("id") for node in nodes if (node.get("properties") or {}).get(S_AND_R) == name]
    classes = [number for number, node in prompt.items() if isinstance(node, dict) and node.get("class_type") == name]
    titled = [node.get("id") for node in nodes if node.get("title") == name]
    return [*named, *classes, *titled]


def _cut(part: str) -> str:
    return os.fsencode(part)[:LONGEST].decode(errors="ignore")
