"""Convert workflows from the interface's format to the API form of /prompt, as the interface itself does."""

from typing import Any

from .graph import MODES
from .library import NodeType
from .subgraphs import unfolded

NOTES = ("MarkdownNote", "Note")


def to_prompt(workflow: dict[str, Any], library: dict[str, NodeType]) -> dict[str, dict[str, Any]]:
    """Return {node id: {"class_type", "inputs"}} for a workflow in format 0.4.

    Widget values are assigned by position, without the second value that a seed stores. Widgets of a newer host that
    are not in the workflow keep the host's defaults. A muted node has no outputs; a bypassed one passes on its inputs
    of the same type. Subgraphs are unfolded.
    """
    workflow = unfolded(workflow)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2], link[5]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or node["mode"] != MODES["on"]:
            continue
        values = list(node.get("widgets_values", []))
        inputs: dict[str, Any] = {}
        for entry in library[node["type"]].widgets:
            if not values:
                break
            inputs[entry.name] = values.pop(0)
            if entry.seed:
                values.pop(0)
        inputs |= node.get("shown", {})
        for entry in node["inputs"]:
            if entry.get("link") is None:
                continue
            source = _source(nodes, links, entry["link"])
            if source:
                inputs[entry["name"]] = source
            elif "widget" not in entry:
                inputs.pop(entry["name"], None)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _source(nodes: dict[int, dict], links: dict[int, tuple[int, int, str]], number: int) -> list[Any] | None:
    """Return the output that a link's data comes from, through bypassed nodes; None if there is none."""
    while True:
        origin, slot, kind = links[number]
        node = nodes[origin]
        if node["mode"] == MODES["on"]:
            return [str(origin), slot]
        if node["mode"] == MODES["mute"]:
            return None
        entries = node["inputs"]
        # The input beside the output first, then the others in order.
        for entry in [*entries[slot : slot + 1], *entries]:
            if entry["type"] == kind:
                break
        else:
            return None
        if entry["link"] is None:
            return None
        number = entry["link"]


def reached(prompt: dict[str, dict[str, Any]], library: dict[str, NodeType]) -> dict[str, dict[str, Any]]:
    """Return the part of a prompt that a server runs: output nodes, and the nodes they depend on."""
    todo = [number for number, call in prompt.items() if library[call["class_type"]].output]
    found: dict[str, dict[str, Any]] = {}
    while todo:
        number = todo.pop()
        if number not in found:
            found[number] = prompt[number]
            todo += [value[0] for value in prompt[number]["inputs"].values() if isinstance(value, list)]
    return found
