"""Describes a workflow as nodes in stages with links by socket name, and writes its layout and JSON."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .lanes import Lanes, Link
from .library import Input, NodeType
from .node import NODE_PADDING, NODE_WIDTH, PREVIEW_HEIGHT, SOCKET_HEIGHT, WIDGET_HEIGHT, Node, Output, Start
from .subgraphs import definition, identity

STAGE_GAP, STAGE_SKIP, NODE_GAP, TITLE_HEIGHT, GROUP_MARGIN, GROUP_HEAD = 110, 40, 70, 30, 20, 50
GROUP_FOOT = 46  # Nodes 2.0 draws some nodes up to 42 taller than `Node.size`
NOTE_WIDTH = 460
# The node to touch first, in the accent colour: the first of these kinds in the workflow.
TOUCHED_FIRST = (
    "SVDReelCutAndDrag",
    "SVDReelMotionMask",
    "SVDReelCameraPath",
    "SVDReelStoryboard",
    "SVDReelSweep",
    "SVDReelTrainingSet",
    "SVDReelModelInfo",
    "SVDReelSamplePicture",
    "LoadImage",
    "LoadVideo",
)
ACCENT = {"color": "#23566b", "bgcolor": "#2d6f8a"}
MODES = {"on": 0, "mute": 2, "bypass": 4}
WITHOUT = "To try the workflow on any machine without a download, in a minute or two of CPU time:"
KEYS = {"mute": "Ctrl+M", "bypass": "Ctrl+B"}
STAGE_COLORS = ("#3f789e", "#88A", "#8A8", "#b58b2a", "#A88")


@dataclass(eq=False)
class Fold:
    """Nodes that the canvas shows as one, as a subgraph; `shown` are pairs (node, widget) that it shows.

    Links that enter or leave become its sockets, named like the first socket inside. `number` and `position` are those
    of the node on the canvas.
    """

    title: str
    description: str
    nodes: list[Node]
    shown: Sequence[tuple[Node, str]]
    type: NodeType
    links: dict[str, Output]
    inside: "Graph"
    ends: list[Output]
    number: int = 0
    position: tuple[int, int] = (0, 0)
    properties: dict[str, Any] = field(default_factory=dict)
    without: str = "on"

    @property
    def shown_inputs(self) -> list[Input]:
        """Sockets, and the widgets that it shows."""
        return list(self.type.inputs.values())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in the editor's units."""
        sockets = max(len(self.type.sockets), len(self.type.outputs))
        pictures = sum(
            PREVIEW_HEIGHT[node.type.id] for node in self.nodes if node.type.id == "PreviewImage"
        )  # from 0.33
        return NODE_WIDTH, NODE_PADDING + SOCKET_HEIGHT * sockets + WIDGET_HEIGHT * len(self.shown) + pictures

    def widget_values(self, without_models: bool) -> list[Any]:
        """Values of the widgets that it shows."""
        return [
            (node.values | node.small if without_models else node.values).get(name, node.type.inputs[name].default)
            for node, name in self.shown
        ]

    def definition(self, without_models: bool) -> dict[str, Any]:
        """Return what is inside, in the workflow format."""
        drawn = {**self.inside.to_json(without_models), "groups": []}
        numbers = {node.number for node in self.nodes}
        drawn["nodes"] = [node for node in drawn["nodes"] if node["id"] in numbers]  # without notes
        sockets = [(entry.name, entry.type) for entry in self.shown_inputs]
        ends = [
            (name, end.node.number, end.slot, kind)
            for (name, kind), end in zip(self.type.outputs, self.ends, strict=True)
        ]
        return definition(self.inside.name, self.title, self.description, drawn, sockets, ends)


@dataclass
class Stage:
    """A column of nodes with a frame around it."""

    graph: "Graph"
    title: str
    below: bool = False
    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        kind: str,
        /,
        *,
        title: str = "",
        models: list[dict] | None = None,
        without: str = "on",
        small: dict[str, Any] | None = None,
        made: bool = False,
        **inputs: Any,
    ) -> Node:
        """Put a node below the last one. `inputs` are outputs of other nodes (links) or widget values.

        `without` and `small` say what a reader who has no model files switches: see Node. made: its file is one that
        the reader makes, so that nothing is downloaded.
        """
        node_type = self.graph.library[kind]
        links = {name: value for name, value in inputs.items() if isinstance(value, Output)}
        values = {name: value for name, value in inputs.items() if name not in links}
        for name in inputs:
            if name not in node_type.inputs:
                raise ValueError(f"{kind} has no input {name!r}; it has {', '.join(node_type.inputs)}")
        for name, link in links.items():
            if link.type != node_type.inputs[name].type:
                raise ValueError(f"{kind}.{name} takes {node_type.inputs[name].type}, the link brings {link.type}")
        for name, value in [*values.items(), *(small or {}).items()]:
            # Which files there are is known on the reader's machine only.
            problem = "" if models or made else node_type.inputs[name].problem(value)
            if problem:
                raise ValueError(f"{kind}: {problem}")
        for entry in node_type.sockets:
            if not entry.optional and entry.name not in links:
                raise ValueError(f"{kind}.{entry.name} must be linked")
        properties: dict[str, Any] = {"Node name for S&R": kind, "cnr_id": node_type.pack}
        properties |= {"ver": node_type.since} if node_type.since else {}
        properties |= {"models": models} if models else {}
        node = Node(
            self.graph.new_number(),
            node_type,
            title or node_type.title,
            values,
            links,
            properties,
            without,
            small or {},
        )
        self.nodes.append(node)
        return node


class Graph:
    """A whole workflow. `library` maps node ids to their types."""

    def __init__(self, name: str, library: dict[str, NodeType]):
        self.name, self.library = name, library
        self.stages: list[Stage] = []
        self.notes: list[str] = []
        self.folds: list[Fold] = []
        self._numbers = 0

    def new_number(self) -> int:
        """Return the next node number."""
        self._numbers += 1
        return self._numbers

    def stage(self, title: str, below: bool = False) -> Stage:
        """Open a new column to the right of the last, or a stage under the last one."""
        self.stages.append(Stage(self, title, below))
        return self.stages[-1]

    @property
    def nodes(self) -> list[Node]:
        """Every node, in the order in which they were added."""
        return [node for stage in self.stages for node in stage.nodes]

    def fold(self, title: str, description: str, nodes: Sequence[Node], shown: Sequence[tuple[Node, str]] = ()) -> Fold:
        """Show nodes as one node at the place of the first; call it once all their links are there."""
        inputs: dict[str, Input] = {}
        links: dict[str, Output] = {}
        within: dict[int, dict[str, Output]] = {node.number: {} for node in nodes}

        def add(entry: Input, label: str) -> Output:
            name = label if label not in inputs else next(
                f"{label}_{k}" for k in range(2, 99) if f"{label}_{k}" not in inputs
            )  # fmt: skip
            inputs[name] = replace(entry, name=name)
            return Output(Start(), len(inputs) - 1, entry.type)

        for node in nodes:
            for entry in node.shown_inputs:
                source = node.links.get(entry.name)
                if source is None or source.node in nodes:
                    continue
                known = next((name for name, link in links.items() if link == source), None)
                start = (
                    Output(Start(), list(inputs).index(known), source.type)
                    if known
                    else add(replace(entry, socket=True), entry.name)
                )
                links.setdefault(known or list(inputs)[-1], source)
                within[node.number][entry.name] = start
        for node, name in shown:
            within[node.number][name] = add(node.type.inputs[name], name)
        ends: list[Output] = []
        for other in self.nodes:
            for source in other.links.values():
                if other not in nodes and source.node in nodes and source not in ends:
                    ends.append(source)
        ends.sort(key=lambda end: (nodes.index(end.node), end.slot))
        outputs = tuple((end.node.type.outputs[end.slot][0], end.type) for end in ends)
        key = f"{self.name}/{title}"
        inside = Graph(key, self.library)
        for column in _columns(nodes):
            stage = inside.stage("")
            stage.nodes = [replace(node, links=node.links | within[node.number], inside=True) for node in column]
        made = Fold(
            title, description, list(nodes), shown,
            NodeType(identity(key), inputs, outputs, "", True, ""), links, inside, ends,
        )  # fmt: skip
        self.folds.append(made)
        return made

    def fold_of(self, node: Node) -> Fold | None:
        """Return the fold that a node is in."""
        return next((fold for fold in self.folds if node in fold.nodes), None)

    def canvas(self, folded: bool = True) -> list[list["Node | Fold"]]:
        """Return what the canvas shows, by stage."""
        shown: list[list[Node | Fold]] = []
        for stage in self.stages:
            column: list[Node | Fold] = []
            for node in stage.nodes:
                fold = self.fold_of(node) if folded else None
                if fold is None:
                    column.append(node)
                elif node is fold.nodes[0]:
                    column.append(fold)
            shown.append(column)
        return shown

    def touched_first(self) -> Node | None:
        """Return the node that a reader changes first, such as the drawing or the picture."""
        nodes = [node for node in self.nodes if self.fold_of(node) is None]
        kinds = [node.type.id for node in nodes]
        first = next((kind for kind in TOUCHED_FIRST if kind in kinds), None)
        return nodes[kinds.index(first)] if first else None

    def switches(self) -> list[str]:
        """What a reader without the foreign models changes, a step each; empty where nothing is needed."""
        steps = []
        for node in self.nodes:
            fold = self.fold_of(node)
            where = f"**{fold.title if fold and set(node.small) <= {name for _, name in fold.shown} else node.title}**"
            if node.without in KEYS:
                steps.append(f"{where}: select it and press {KEYS[node.without]} ({node.without}).")
            if node.small:
                values = ", ".join(f"*{name}* {value}" for name, value in node.small.items())
                steps.append(f"{where}: set {values}.")
        return steps

    def note(self, text: str) -> None:
        """Add a Markdown text to the left of everything."""
        # Some versions of the interface keep line breaks, so a paragraph must be one line.
        self.notes.append(re.sub(r"(?<=\S)\n(?![\n#-]|\d+\.)\s*", " ", text.strip()))

    def to_json(self, without_models: bool = False, folded: bool = True) -> dict[str, Any]:
        """Lay the graph out and return it in the interface's own format, version 0.4.

        without_models: as it is after the steps of `switches`. folded: with subgraphs.
        """
        for number, fold in enumerate(self.folds, self._numbers + 1):
            fold.number = number
        canvas = self.canvas(folded)
        frames = self._lay_out(canvas)
        nodes = [node for column in canvas for node in column]
        links, joined = self._links(nodes, folded)
        written = [self._node_json(order, node, links, joined, without_models) for order, node in enumerate(nodes)]
        written += self._note_json(len(nodes), max(node.number for node in nodes + self.nodes) + 1)
        folds = [fold.definition(without_models) for fold in self.folds] if folded else []
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"svd-reel/{self.name}")),
            "revision": 0,
            "last_node_id": max(node["id"] for node in written),
            "last_link_id": len(links),
            "nodes": written,
            "links": links,
            "groups": frames,
            "config": {},
            "extra": {"ds": {"scale": 0.65, "offset": [NOTE_WIDTH + 200, 160]}, **_lanes(nodes, links, frames)},
            "version": 0.4,
            **({"definitions": {"subgraphs": folds}} if folds else {}),
        }

    def _lay_out(self, canvas: list[list[Node | Fold]]) -> list[dict[str, Any]]:
        frames, left, right, bottom = [], 0, 0, 0
        for stage, column in zip(self.stages, canvas, strict=True):
            if not column:
                continue  # all of it is shown elsewhere, in a subgraph
            number = len(frames)
            if not stage.below:
                left, bottom = right, -TITLE_HEIGHT - GROUP_HEAD - STAGE_SKIP
            top = bottom + STAGE_SKIP
            y, width = top + GROUP_HEAD + TITLE_HEIGHT, 0
            for node in column:
                node.position = (left, y)
                width = max(width, node.size[0])
                y += node.size[1] + TITLE_HEIGHT + NODE_GAP
            bottom = y - NODE_GAP - TITLE_HEIGHT + GROUP_FOOT
            frames.append(
                {
                    "id": number + 1,
                    "title": stage.title,
                    "bounding": [left - GROUP_MARGIN, top, width + 2 * GROUP_MARGIN, bottom - top],
                    "color": STAGE_COLORS[number % len(STAGE_COLORS)],
                    "font_size": 24,
                    "flags": {},
                }
            )
            right = max(right, left + width + STAGE_GAP)
        return frames

    def _links(self, nodes: list[Node | Fold], folded: bool) -> tuple[list[list[Any]], dict[tuple[int, str], int]]:
        links: list[list[Any]] = []
        joined: dict[tuple[int, str], int] = {}
        for node in nodes:
            for slot, entry in enumerate(node.shown_inputs):
                source = node.links.get(entry.name)
                if source is None:
                    continue
                fold = self.fold_of(source.node) if folded else None
                if fold:
                    source = Output(fold, fold.ends.index(source), source.type)
                links.append([len(links) + 1, source.node.number, source.slot, node.number, slot, source.type])
                joined[node.number, entry.name] = len(links)
        return links, joined

    def _node_json(
        self,
        order: int,
        node: Node | Fold,
        links: list[list[Any]],
        joined: dict[tuple[int, str], int],
        without_models: bool,
    ) -> dict[str, Any]:
        inputs = [
            {"name": entry.name, "type": entry.type, "link": joined.get((node.number, entry.name))}
            | ({} if entry.socket else {"widget": {"name": entry.name}})
            for entry in node.shown_inputs
        ]
        outputs = [
            {
                "name": name,
                "type": kind,
                "slot_index": slot,
                "links": [link[0] for link in links if link[1:3] == [node.number, slot]] or None,
            }
            for slot, (name, kind) in enumerate(node.type.outputs)
        ]
        titled = {"title": node.title} if node.title != node.type.title else {}
        titled |= ACCENT if node is self.touched_first() else {}
        return {
            "id": node.number,
            "type": node.type.id,
            **titled,
            "pos": list(node.position),
            "size": list(node.size),
            "flags": {},
            "order": order,
            "mode": MODES[node.without] if without_models else 0,
            "inputs": inputs,
            "outputs": outputs,
            "properties": node.properties,
            "widgets_values": node.widget_values(without_models),
        }

    def _note_json(self, order: int, number: int) -> list[dict[str, Any]]:
        titled = [
            ("Good to know" if place else "How to use this workflow", text) for place, text in enumerate(self.notes)
        ]
        steps = self.switches()
        if steps:
            listed = "\n".join(f"{place}. {step}" for place, step in enumerate(steps, 1))
            titled.append(("Without these files", f"{WITHOUT}\n\n{listed}"))
        written, y = [], -GROUP_HEAD
        for place, (title, text) in enumerate(titled):
            # About 55 characters fit a line of a note in the interface with the largest letters.
            lines = sum(1 + len(line) // 55 for line in text.splitlines())
            height = 70 + 15 * lines
            written.append(
                {
                    "id": number + place,
                    "type": "MarkdownNote",
                    "title": title,
                    "pos": [-NOTE_WIDTH - STAGE_GAP, y],
                    "size": [NOTE_WIDTH, height],
                    "flags": {},
                    "order": order + place,
                    "mode": 0,
                    "inputs": [],
                    "outputs": [],
                    "properties": {},
                    "widgets_values": [text],
                    "color": "#432",
                    "bgcolor": "#653",
                }
            )
            y += height + TITLE_HEIGHT + NODE_GAP
        return written


def _lanes(nodes: list[Node | Fold], links: list[list[Any]], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return reroute points of links that would run behind a node."""
    known = {node.number: node for node in nodes}
    ways = Lanes([(x, y, x + width, y + height) for x, y, width, height in (frame["bounding"] for frame in frames)])
    drawn = []
    for number, origin, slot, target, entry, _ in links:
        if origin in known:
            (x, y), (to_x, to_y) = known[origin].position, known[target].position
            start = (x + known[origin].size[0], y + SOCKET_HEIGHT * (slot + 0.5))
            drawn.append(Link(number, (origin, slot), start, (to_x, to_y + SOCKET_HEIGHT * (entry + 0.5))))
    ways.add(drawn, [(*node.position, *map(sum, zip(node.position, node.size, strict=True))) for node in nodes])
    return ways.extra()


def _columns(nodes: Sequence[Node]) -> list[list[Node]]:
    """Return nodes in columns, each to the right of those that it takes something from."""
    depth: dict[int, int] = {}
    for node in nodes:
        before = [depth[link.node.number] for link in node.links.values() if link.node in nodes]
        depth[node.number] = 1 + max(before, default=-1)
    return [[node for node in nodes if depth[node.number] == place] for place in range(max(depth.values()) + 1)]
