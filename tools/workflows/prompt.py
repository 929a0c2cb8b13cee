"""From the interface's format to the one that a server's /prompt takes, as the interface itself does it."""

from typing import Any

from .library import NodeType

NOTES = ("MarkdownNote", "Note")


def to_prompt(workflow: dict[str, Any], library: dict[str, NodeType]) -> dict[str, dict[str, Any]]:
    """Return {node id: {"class_type", "inputs"}} for a workflow in format 0.4.

    Widget values are assigned by position, with the second value that a seed stores left out. A newer host's widgets
    that the workflow does not know keep the host's defaults.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or node["mode"] != 0:
            continue
        values = list(node.get("widgets_values", []))
        inputs: dict[str, Any] = {}
        for entry in library[node["type"]].widgets:
            if not values:
                break
            inputs[entry.name] = values.pop(0)
            if entry.seed:
                values.pop(0)
        for entry in node["inputs"]:
            if entry.get("link") is not None:
                inputs[entry["name"]] = links[entry["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
