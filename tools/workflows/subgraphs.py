"""Subgraphs in workflow files: several nodes that the canvas shows as one, and that ComfyUI opens by a double click."""

import copy
import uuid
from collections.abc import Sequence
from typing import Any

INSIDE, OUTSIDE = -10, -20  # numbers that the format gives to both ends of a subgraph
END_WIDTH, END_GAP, ROW = 130, 90, 20
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")

Socket = tuple[str, str]  # name and type


def identity(name: str) -> str:
    """Return an id that stays the same for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"svd-reel/{name}"))


def definition(
    key: str,
    name: str,
    description: str,
    drawn: dict[str, Any],
    inputs: Sequence[Socket],
    outputs: Sequence[tuple[str, int, int, str]],
) -> dict[str, Any]:
    """Return the definition of a subgraph.

    key: names it for good. drawn: its nodes, links and groups in the workflow format, with links of its inputs from
    INSIDE. outputs: name, number of the node inside, its slot, and type.
    """
    nodes, links = {node["id"]: node for node in drawn["nodes"]}, [*drawn["links"]]
    for slot, (_, number, origin, kind) in enumerate(outputs):
        links.append([len(links) + 1, number, origin, OUTSIDE, slot, kind])
        start = nodes[number]["outputs"][origin]
        start["links"] = [*(start["links"] or []), len(links)]
    right = max(node["pos"][0] + node["size"][0] for node in nodes.values())
    ends = [(label, kind) for label, _, _, kind in outputs]
    return {
        "id": identity(key),
        "version": 1,
        "state": {
            "lastGroupId": len(drawn["groups"]),
            "lastNodeId": max(nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INSIDE, "bounding": _end(-END_GAP - END_WIDTH, len(inputs))},
        "outputNode": {"id": OUTSIDE, "bounding": _end(right + END_GAP, len(outputs))},
        "inputs": _sockets(key, "in", inputs, links, -END_GAP - 20),
        "outputs": _sockets(key, "out", ends, links, right + END_GAP + 20),
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": drawn["groups"],
        "links": [dict(zip(LINK, link, strict=True)) for link in links],
        "extra": {},
        "description": description,
    }


def _end(x: float, count: int) -> list[float]:
    return [x, 0, END_WIDTH, ROW * (count + 2)]


def _sockets(key: str, side: str, sockets: Sequence[Socket], links: list[list], x: float) -> list[dict[str, Any]]:
    number, node, slot = (INSIDE, 1, 2) if side == "in" else (OUTSIDE, 3, 4)
    return [
        {
            "id": identity(f"{key}/{side}/{name}"),
            "name": name,
            "type": kind,
            "linkIds": [link[0] for link in links if link[node] == number and link[slot] == place],
            "pos": [x, ROW * (place + 1)],
        }
        for place, (name, kind) in enumerate(sockets)
    ]


def unfolded(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return the workflow without subgraphs: their nodes have ids such as "14:5", as a run has them.

    Values of widgets that a subgraph shows replace those of its nodes. Subgraphs hold no others.
    """
    known = {entry["id"]: entry for entry in workflow.get("definitions", {}).get("subgraphs", ())}
    nodes, links = [], []
    entries: dict[tuple[Any, int], list[tuple[Any, int]]] = {}  # input of a subgraph -> inputs of nodes inside
    exits: dict[tuple[Any, int], tuple[Any, int]] = {}
    for node in copy.deepcopy(workflow["nodes"]):
        if node["type"] not in known:
            nodes.append(node)
            continue
        inside, outer = copy.deepcopy(known[node["type"]]), node["id"]
        own = {entry["id"]: {**entry, "id": f"{outer}:{entry['id']}"} for entry in inside["nodes"]}
        for link in inside["links"]:
            origin, start, target, end = (link[part] for part in LINK[1:5])
            if origin == INSIDE:
                entries.setdefault((outer, start), []).append((own[target]["id"], end))
                own[target]["inputs"][end]["link"] = None
            elif target == OUTSIDE:
                exits[outer, end] = (own[origin]["id"], start)
            else:
                number = f"{outer}:{link['id']}"
                links.append([number, own[origin]["id"], start, own[target]["id"], end, link["type"]])
                own[target]["inputs"][end]["link"] = number
        _take_shown_values(node, own, entries)
        nodes += own.values()
    by_id = {node["id"]: node for node in nodes}
    for number, origin, start, target, end, kind in workflow["links"]:
        origin, start = exits.get((origin, start), (origin, start))
        for place, (into, slot) in enumerate(entries.get((target, end), [(target, end)])):
            name = number if not place else f"{number}/{place}"
            links.append([name, origin, start, into, slot, kind])
            by_id[into]["inputs"][slot]["link"] = name
    flat = {name: value for name, value in workflow.items() if name != "definitions"}
    return {**flat, "nodes": nodes, "links": links}


def _take_shown_values(node: dict[str, Any], inside: dict[int, dict], entries: dict) -> None:
    """Give the values of the widgets that a subgraph node shows to its nodes."""
    by_id = {entry["id"]: entry for entry in inside.values()}
    values = iter(node.get("widgets_values") or ())
    for slot, entry in enumerate(node["inputs"]):
        if "widget" in entry:
            value = next(values)
            for number, end in entries[node["id"], slot]:
                by_id[number].setdefault("shown", {})[by_id[number]["inputs"][end]["name"]] = value
