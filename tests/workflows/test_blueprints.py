"""The subgraph blueprints: one node outside, and inside it nodes and links that fit together."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.workflows.blueprints import FOLDER, build_blueprints
from tools.workflows.library import own_nodes
from tools.workflows.prompt import NOTES

FILES = sorted(FOLDER.glob("*.json"))
NODES = own_nodes()

every_blueprint = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outer node of a blueprint, and the subgraph."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    (outer,), (inside,) = whole["nodes"], whole["definitions"]["subgraphs"]
    return outer, inside


def test_the_files_are_what_the_builder_makes_of_todays_nodes() -> None:
    written = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
    assert written == build_blueprints(), "run `python -m tools.workflows`"
    assert len(FILES) == 2


@every_blueprint
def test_the_outer_node_is_the_subgraph_under_the_files_name(path: Path) -> None:
    outer, inside = read(path)
    assert outer["type"] == inside["id"]
    assert outer["title"] == inside["name"] == path.stem
    # The interface lists blueprints beside nodes by these names.
    assert path.stem not in {node.title for node in NODES.values()}
    for side in ("inputs", "outputs"):
        assert [(entry["name"], entry["type"]) for entry in outer[side]] == [
            (entry["name"], entry["type"]) for entry in inside[side]
        ]


@every_blueprint
def test_every_widget_that_it_shows_is_one_inside(path: Path) -> None:
    outer, inside = read(path)
    kinds = {str(node["id"]): node["type"] for node in inside["nodes"]}
    for number, widget in outer["properties"]["proxyWidgets"]:
        assert widget in {entry.name for entry in NODES[kinds[number]].widgets}


@every_blueprint
def test_links_inside_join_sockets_of_one_type_and_both_ends_know_them(path: Path) -> None:
    _, inside = read(path)
    nodes = {node["id"]: node for node in inside["nodes"]}
    left, right = inside["inputNode"]["id"], inside["outputNode"]["id"]
    for link in inside["links"]:
        number, kind = link["id"], link["type"]
        if link["origin_id"] == left:
            start = inside["inputs"][link["origin_slot"]]
            assert number in start["linkIds"]
        else:
            start = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert number in start["links"]
        if link["target_id"] == right:
            end = inside["outputs"][link["target_slot"]]
            assert end["linkIds"] == [number]
        else:
            end = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert end["link"] == number
        assert start["type"] == kind == end["type"]
    assert all(entry["linkIds"] for entry in (*inside["inputs"], *inside["outputs"]))


@every_blueprint
def test_required_sockets_inside_are_linked(path: Path) -> None:
    _, inside = read(path)
    for node in inside["nodes"]:
        if node["type"] not in NOTES:
            linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
            assert {entry.name for entry in NODES[node["type"]].sockets if not entry.optional} <= linked
