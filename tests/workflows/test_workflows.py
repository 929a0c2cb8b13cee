"""The shipped workflows: their format, and that every node, socket and value in them exists on both known hosts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.workflows.build import build_all
from tools.workflows.controlnets import NANO as NANO_LINES
from tools.workflows.definitions import describe
from tools.workflows.graph import ACCENT, KEYS, Graph
from tools.workflows.library import NodeType, foreign_nodes, host_nodes, host_versions, library, own_nodes
from tools.workflows.pieces import NANO, PICTURE
from tools.workflows.prompt import NOTES, reached, to_prompt
from tools.workflows.subgraphs import INSIDE, OUTSIDE, unfolded

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
FILES = sorted(FOLDER.glob("*.json"))
VERSIONS = host_versions()
# Nodes that came after the oldest host we support; the workflow's note says so.
NEWER_NODES = {"0.3.64": {"FrameInterpolationModelLoader", "FrameInterpolate"}}
# Combos of file names, whose options only a reader's machine knows.
FILE_WIDGETS = {("LoadImage", "image"), ("SVDReelLoadModel", "model_name"), ("SVDReelLoadModel", "complete_from")}
FILE_WIDGETS |= {
    ("CheckpointLoaderSimple", "ckpt_name"),
    ("ControlNetLoader", "control_net_name"),
    ("SVDReelLoadControlNet", "control_net_name"),
    ("UpscaleModelLoader", "model_name"),
    ("FrameInterpolationModelLoader", "model_name"),
    ("SVDReelModelInfo", "model_name"),
    ("SVDReelDoctor", "model_name"),
    ("SVDReelLoadCameraWeights", "file"),
    ("SVDReelLoadPoseNetwork", "file"),
    ("SVDReelLoadBetweenWeights", "file"),
}
TITLE = 30
MOST_NODES = 12  # on the canvas, without notes

every_workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_version = pytest.mark.parametrize("version", VERSIONS)


def read(path: Path) -> dict[str, Any]:
    """Contents of a workflow."""
    return json.loads(path.read_text(encoding="utf-8"))


def known_nodes(version: str) -> dict[str, NodeType]:
    """Every node on a host of this version with our pack; newer nodes as the first version that has them declares."""
    newer = host_nodes(VERSIONS[-1])
    missing = {key: newer[key] for key in NEWER_NODES.get(version, ())}
    return {**foreign_nodes(), **missing, **host_nodes(version), **own_nodes()}


def working_nodes(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Nodes that compute something, those in subgraphs among them."""
    return (node for node in unfolded(workflow)["nodes"] if node["type"] not in NOTES)


def rectangle(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a node with its title bar."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two rectangles share area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_readme_and_docs_list_every_workflow() -> None:
    names = {path.stem for path in FILES}
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    groups = readme.split("## Workflows\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"`(\w+)`", groups)) == names
    page = (FOLDER.parent / "docs" / "workflows.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == names


def test_the_files_are_what_the_builder_makes_of_todays_nodes() -> None:
    built = build_all()
    assert {path.stem: read(path) for path in FILES} == built, "run `python -m tools.workflows`"


def test_every_workflow_has_its_picture_and_nothing_else_lies_beside_it() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"api"} == {
        f"{path.stem}{end}" for path in FILES for end in (".json", ".jpg")
    }
    for path in FILES:
        picture = path.with_suffix(".jpg").read_bytes()
        assert picture[:3] == b"\xff\xd8\xff" and len(picture) < 200_000


def test_every_node_of_the_pack_is_shown_in_some_workflow() -> None:
    used = {node["type"] for path in FILES for node in working_nodes(read(path))}
    assert set(own_nodes()) <= used


@every_workflow
def test_the_format_is_the_interfaces_own(path: Path) -> None:
    workflow = read(path)
    assert workflow["version"] == 0.4
    assert {"last_node_id", "last_link_id", "nodes", "links", "groups", "config", "extra"} <= workflow.keys()
    numbers = [node["id"] for node in workflow["nodes"]]
    assert len(set(numbers)) == len(numbers) and max(numbers) == workflow["last_node_id"]
    assert [node["order"] for node in workflow["nodes"]] == list(range(len(numbers)))
    for node in workflow["nodes"]:
        assert {"id", "type", "pos", "size", "flags", "mode", "inputs", "outputs", "properties"} <= node.keys()
        assert node["mode"] == 0
    assert any(node["type"] in NOTES for node in workflow["nodes"])


@every_workflow
def test_links_join_sockets_of_one_type_and_both_ends_know_them(path: Path) -> None:
    workflow = read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) == len(workflow["links"]) == workflow["last_link_id"]
    for number, origin, origin_slot, target, target_slot, kind in links.values():
        source, sink = nodes[origin]["outputs"][origin_slot], nodes[target]["inputs"][target_slot]
        assert source["type"] == kind == sink["type"]
        assert number in source["links"] and sink["link"] == number
    ends = [entry["link"] for node in nodes.values() for entry in node["inputs"] if entry["link"] is not None]
    starts = [number for node in nodes.values() for entry in node["outputs"] for number in entry["links"] or ()]
    assert sorted(ends) == sorted(starts) == sorted(links)


@every_workflow
def test_the_canvas_has_at_most_twelve_nodes_and_subgraphs_have_names_of_their_own(path: Path) -> None:
    workflow = read(path)
    assert len([node for node in workflow["nodes"] if node["type"] not in NOTES]) <= MOST_NODES
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    names = [entry["name"] for entry in subgraphs]
    assert len(set(names)) == len(names) and all(entry["description"].endswith(".") for entry in subgraphs)
    assert not set(names) & {node.title for node in own_nodes().values()}
    titles = {node["type"]: node["title"] for node in workflow["nodes"] if node["type"] in {e["id"] for e in subgraphs}}
    assert titles == {entry["id"]: entry["name"] for entry in subgraphs}
    inner = [node["id"] for entry in subgraphs for node in entry["nodes"]]
    # Newer interfaces give a node another number where one has it already.
    assert not set(inner) & {node["id"] for node in workflow["nodes"]} and len(set(inner)) == len(inner)


@every_workflow
def test_links_in_subgraphs_join_sockets_of_one_type_by_their_place_among_all_inputs(path: Path) -> None:
    known = library()
    for inside in read(path).get("definitions", {}).get("subgraphs", []):
        nodes = {node["id"]: node for node in inside["nodes"]}
        for node in nodes.values():
            declared = known[node["type"]]
            places = [entry["name"] for entry in node["inputs"]]
            assert places == [entry.name for entry in (*declared.sockets, *declared.widgets)]
        for link in inside["links"]:
            number, (origin, start) = link["id"], (link["origin_id"], link["origin_slot"])
            source = inside["inputs"][start] if origin == INSIDE else nodes[origin]["outputs"][start]
            assert number in source["linkIds" if origin == INSIDE else "links"]
            target, end = link["target_id"], link["target_slot"]
            sink = inside["outputs"][end] if target == OUTSIDE else nodes[target]["inputs"][end]
            assert [number] == sink["linkIds"] if target == OUTSIDE else number == sink["link"]
            assert source["type"] == link["type"] == sink["type"]
        assert all(entry["linkIds"] for entry in (*inside["inputs"], *inside["outputs"]))


@pytest.mark.parametrize("without_models", [False, True])
def test_subgraphs_give_the_prompt_that_their_nodes_give_without_them(without_models: bool) -> None:
    known = library()

    def inside(value: Any) -> Any:
        return [value[0].split(":")[-1], value[1]] if isinstance(value, list) else value

    plain = build_all(without_models, folded=False)
    for name, workflow in build_all(without_models).items():
        prompt = {
            number.split(":")[-1]: {**call, "inputs": {key: inside(value) for key, value in call["inputs"].items()}}
            for number, call in to_prompt(workflow, known).items()
        }
        assert prompt == to_prompt(plain[name], known), name


def test_values_on_a_subgraph_node_count_for_the_nodes_inside() -> None:
    workflow, known = read(FOLDER / "text_to_video.json"), library()
    (photo,) = [node for node in workflow["nodes"] if node.get("title") == "Make the Photo"]
    place = [entry["name"] for entry in photo["inputs"] if "widget" in entry].index("steps")
    photo["widgets_values"][place] = 7
    (sampler,) = [call for call in to_prompt(workflow, known).values() if call["class_type"] == "KSampler"]
    assert sampler["inputs"]["steps"] == 7 and sampler["inputs"]["cfg"] == 6


@every_version
@every_workflow
def test_every_node_exists_with_these_sockets(path: Path, version: str) -> None:
    known = known_nodes(version)
    for node in working_nodes(read(path)):
        declared = known[node["type"]]
        for entry in node["inputs"]:
            there = declared.inputs[entry["name"]]
            assert there.type == entry["type"]
            assert there.socket != ("widget" in entry)
        linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
        assert {entry.name for entry in declared.sockets if not entry.optional} <= linked
        types = [kind for _, kind in declared.outputs]
        # A newer host may have grown outputs at the end.
        assert types[: len(node["outputs"])] == [entry["type"] for entry in node["outputs"]]


@every_version
@every_workflow
def test_every_widget_value_is_one_that_the_host_takes(path: Path, version: str) -> None:
    workflow, known = read(path), known_nodes(version)
    for number, call in to_prompt(workflow, known).items():
        declared = known[call["class_type"]]
        for name, value in call["inputs"].items():
            linked = isinstance(value, list)
            if not linked and (declared.id, name) not in FILE_WIDGETS:
                assert not declared.inputs[name].problem(value), f"node {number} {declared.id}"
        given = {entry.name for entry in declared.inputs.values() if not entry.optional} - set(call["inputs"])
        assert not given, f"node {number} {declared.id} lacks {given}"


@every_workflow
def test_nodes_and_groups_lie_apart_and_data_runs_to_the_right(path: Path) -> None:
    workflow = read(path)
    nodes = workflow["nodes"]
    for index, node in enumerate(nodes):
        for other in nodes[index + 1 :]:
            assert not overlap(rectangle(node), rectangle(other)), f"{node['type']} and {other['type']}"
    frames = [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in workflow["groups"])]
    for index, frame in enumerate(frames):
        assert not any(overlap(frame, other) for other in frames[index + 1 :])
    for node in nodes:
        left, top, right, bottom = rectangle(node)
        holders = [f for f in frames if f[0] <= left and f[1] <= top and right <= f[2] and bottom <= f[3]]
        assert len(holders) == (node["type"] not in NOTES)
    places = {node["id"]: node["pos"] for node in nodes}
    for _, origin, _, target, _, _ in workflow["links"]:
        (x, y), (to_x, to_y) = places[origin], places[target]
        assert x < to_x or (x == to_x and y < to_y)


@every_workflow
def test_points_of_a_long_link_lead_from_its_start_to_its_end(path: Path) -> None:
    workflow = read(path)
    extra = workflow["extra"]
    points = {point["id"]: point for point in extra.get("reroutes", ())}
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    boxes = [rectangle(node) for node in nodes.values()]
    for end in extra.get("linkExtensions", ()):
        way, parent = [], end["parentId"]
        while parent is not None:
            way.insert(0, points[parent]["pos"])
            assert end["id"] in points[parent]["linkIds"]
            parent = points[parent].get("parentId")
        _, origin, _, target, _, _ = links[end["id"]]
        across = [nodes[origin]["pos"][0], *(x for x, _ in way), nodes[target]["pos"][0]]
        assert across == sorted(across)
        assert not any(left < x < right and top < y < bottom for x, y in way for left, top, right, bottom in boxes)
    assert {number for point in points.values() for number in point["linkIds"]} == {
        end["id"] for end in extra.get("linkExtensions", ())
    }


@every_workflow
def test_loaders_of_files_say_where_to_get_them_and_where_they_go(path: Path) -> None:
    folders = {"SVDReelLoadModel": "checkpoints", "UpscaleModelLoader": "upscale_models"}
    folders |= {"CheckpointLoaderSimple": "checkpoints", "ControlNetLoader": "controlnet"}
    folders["SVDReelLoadControlNet"] = "controlnet"
    folders["FrameInterpolationModelLoader"] = "frame_interpolation"
    for node in working_nodes(read(path)):
        if node["type"] in folders and not node["widgets_values"][0].startswith("nano"):
            models, chosen = node["properties"]["models"], [str(value) for value in node["widgets_values"]]
            # Both published SVD ControlNets have one file name; their notes say how to rename them.
            renamed = node["type"] == "SVDReelLoadControlNet"
            assert renamed or chosen[0].endswith(models[0]["name"])
            for model in models:
                assert model["directory"] == folders[node["type"]]
                assert renamed or any(value.endswith(model["name"]) for value in chosen)
                assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{model['name']}")
                assert model["name"].endswith(".safetensors")


def described() -> dict[str, Graph]:
    """Every workflow's description by name."""
    return {graph.name: graph for graph in describe(library())}


@every_version
def test_without_foreign_files_and_packs_the_noted_switches_are_enough(version: str) -> None:
    known = known_nodes(version)
    for name, graph in described().items():
        runs = reached(to_prompt(graph.to_json(without_models=True), known), known)
        assert any(known[call["class_type"]].output for call in runs.values()), name
        for call in runs.values():
            kind = call["class_type"]
            assert kind in {**host_nodes(version), **own_nodes()}, f"{name}: {kind}"
            for entry in known[kind].inputs.values():
                value = call["inputs"].get(entry.name)
                assert entry.optional or value is not None, f"{name}: {kind}.{entry.name} is missing"
                if (kind, entry.name) in FILE_WIDGETS and value is not None:
                    assert value in (NANO, NANO_LINES, PICTURE, "none"), f"{name}: {kind} wants {value}"


def test_a_note_says_how_to_do_without_the_files() -> None:
    for name, graph in described().items():
        notes = {node["title"]: node["widgets_values"][0] for node in graph.to_json()["nodes"] if node["type"] in NOTES}
        assert not any(re.search(r"\{|\}", text) for text in notes.values()), name
        switched = [node for node in graph.nodes if node.without != "on" or node.small]
        assert ("Without these files" in notes) == bool(switched), name
        for node in switched:
            fold = graph.fold_of(node)
            names = [f"**{node.title}**", *([f"**{fold.title}**"] if fold else [])]
            (line,) = (
                line for line in notes["Without these files"].splitlines() if any(name in line for name in names)
            )
            assert node.without == "on" or KEYS[node.without] in line
            assert all(f"*{widget}* {value}" in line for widget, value in node.small.items())


def test_a_bypassed_node_hands_on_and_a_muted_one_does_not() -> None:
    graph = described()["sketch_to_4k_film"]
    known = known_nodes(VERSIONS[0])
    clip = next(node for node in graph.nodes if node.type.id == "SVDReelAnimate")
    film = next(node for node in graph.nodes if node.type.id == "SVDReelFinish")
    sources = []
    for without in (False, True):
        prompt = to_prompt(graph.to_json(without_models=without), known)
        sources.append(prompt[prompt[str(clip.number)]["inputs"]["image"][0]]["class_type"])
        assert ("upscale_model" in prompt[str(film.number)]["inputs"]) != without
    assert sources == ["ImageBlend", "ImageScale"]


@every_workflow
def test_one_node_has_the_accent_colour_and_the_first_note_is_ten_lines(path: Path) -> None:
    nodes = read(path)["nodes"]
    assert sum(node.get("color") == ACCENT["color"] for node in nodes) == 1
    (note,) = [node for node in nodes if node.get("title") == "How to use this workflow"]
    assert len([line for line in note["widgets_values"][0].splitlines() if line.strip()]) <= 10
