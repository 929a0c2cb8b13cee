"""Describes a workflow as nodes in stages with links by socket name, and writes its layout and JSON."""

import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from .lanes import Lanes, Link
from .library import Input, NodeType

STAGE_GAP, STAGE_SKIP, NODE_GAP, TITLE_HEIGHT, GROUP_MARGIN, GROUP_HEAD = 110, 40, 70, 30, 20, 50
SOCKET_HEIGHT, WIDGET_HEIGHT, NODE_PADDING = 22, 26, 20
NODE_WIDTH, NOTE_WIDTH = 330, 460
# Room below the widgets for the picture or clip that the interface shows in the node.
PREVIEW_HEIGHT = {
    "KSampler": 280,  # a player, once it samples an exported model
    "LoadImage": 260,
    "PreviewImage": 260,
    "SaveVideo": 300,
    "SaveAnimatedWEBP": 300,
    "SVDReelAnimate": 280,  # a player
    "SVDReelCameraPath": 400,  # drawn below its widgets, like those of the next nodes
    "SVDReelCompare": 340,
    "SVDReelCutAndDrag": 400,
    "SVDReelDecode": 280,
    "SVDReelExtend": 280,
    "SVDReelFinish": 340,
    "SVDReelGuidance": 250,
    "SVDReelInbetween": 280,
    "SVDReelLoop": 280,
    "SVDReelDoctor": 260,
    "SVDReelModelInfo": 240,
    "SVDReelMotionAmount": 250,
    "SVDReelMotionMask": 370,
    "SVDReelSampler": 280,
    "SVDReelSchedule": 250,
    "SVDReelStoryboard": 640,  # its text, its table and a player
    "SVDReelSweep": 480,
    "CLIPTextEncode": 100,  # so has its text
}
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


@dataclass(frozen=True)
class Output:
    """One output socket of a node in the graph."""

    node: "Node"
    slot: int
    type: str


@dataclass
class Node:
    """One node in the graph; `values` are its widgets, `links` its linked inputs.

    Without foreign models the node is switched to `without` (a key of MODES) and its widgets to `small`.
    """

    number: int
    type: NodeType
    title: str
    values: dict[str, Any]
    links: dict[str, Output]
    properties: dict[str, Any]
    without: str = "on"
    small: dict[str, Any] = field(default_factory=dict)
    position: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> Output:
        """Return an output by name, or by type where only one output has it."""
        by_name = [slot for slot, (label, _) in enumerate(self.type.outputs) if label == name]
        slots = by_name or [slot for slot, (_, kind) in enumerate(self.type.outputs) if kind == name]
        if len(slots) != 1:
            raise ValueError(f"{self.type.id} has {len(slots)} outputs {name!r}; it has {self.type.outputs}")
        return Output(self, slots[0], self.type.outputs[slots[0]][1])

    @property
    def shown_inputs(self) -> list[Input]:
        """Inputs with a dot: sockets, and widgets that a link has taken over."""
        return [entry for entry in self.type.inputs.values() if entry.socket or entry.name in self.links]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in the editor's units, on the large side: newer interfaces draw taller widgets."""
        sockets = max(len(self.shown_inputs), len(self.type.outputs))
        widgets = len(self.type.widgets) + sum(entry.seed for entry in self.type.widgets)
        height = NODE_PADDING + SOCKET_HEIGHT * sockets + WIDGET_HEIGHT * widgets
        return NODE_WIDTH, height + PREVIEW_HEIGHT.get(self.type.id, 0)

    def widget_values(self, without_models: bool) -> list[Any]:
        """Values in the order in which the interface stores them, with its own additions."""
        values = self.values | self.small if without_models else self.values
        stored = []
        for entry in self.type.widgets:
            stored.append(values.get(entry.name, entry.default))
            if entry.seed:
                stored.append("fixed")
        return [*stored, "image"] if self.type.id == "LoadImage" else stored


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

    def touched_first(self) -> Node | None:
        """Return the node that a reader changes first, such as the drawing or the picture."""
        kinds = [node.type.id for node in self.nodes]
        first = next((kind for kind in TOUCHED_FIRST if kind in kinds), None)
        return self.nodes[kinds.index(first)] if first else None

    def switches(self) -> list[str]:
        """What a reader without the foreign models changes, a step each; empty where nothing is needed."""
        steps = []
        for node in self.nodes:
            where = f"**{node.title}**"
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

    def to_json(self, without_models: bool = False) -> dict[str, Any]:
        """Lay the graph out and return it in the interface's own format, version 0.4.

        without_models: as it is after the steps of `switches`.
        """
        frames = self._lay_out()
        nodes = self.nodes
        links, joined = self._links(nodes)
        written = [self._node_json(order, node, joined, without_models) for order, node in enumerate(nodes)]
        written += self._note_json(len(nodes), len(nodes) + 1)
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"svd-reel/{self.name}")),
            "revision": 0,
            "last_node_id": max(node["id"] for node in written),
            "last_link_id": len(links),
            "nodes": written,
            "links": links,
            "groups": frames,
            "config": {},
            "extra": {"ds": {"scale": 0.65, "offset": [NOTE_WIDTH + 200, 160]}, **self._lanes(links, frames)},
            "version": 0.4,
        }

    def _lay_out(self) -> list[dict[str, Any]]:
        frames, left, right, bottom = [], 0, 0, 0
        for number, stage in enumerate(self.stages):
            if not stage.below:
                left, bottom = right, -TITLE_HEIGHT - GROUP_HEAD - STAGE_SKIP
            top = bottom + STAGE_SKIP
            y, width = top + GROUP_HEAD + TITLE_HEIGHT, 0
            for node in stage.nodes:
                node.position = (left, y)
                width = max(width, node.size[0])
                y += node.size[1] + TITLE_HEIGHT + NODE_GAP
            bottom = y - NODE_GAP - TITLE_HEIGHT + GROUP_MARGIN
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

    def _links(self, nodes: list[Node]) -> tuple[list[list[Any]], dict[tuple[int, str], int]]:
        links: list[list[Any]] = []
        joined: dict[tuple[int, str], int] = {}
        for node in nodes:
            for slot, entry in enumerate(node.shown_inputs):
                source = node.links.get(entry.name)
                if source is not None:
                    links.append([len(links) + 1, source.node.number, source.slot, node.number, slot, source.type])
                    joined[node.number, entry.name] = len(links)
        return links, joined

    def _lanes(self, links: list[list[Any]], frames: list[dict[str, Any]]) -> dict[str, Any]:
        nodes = {node.number: node for node in self.nodes}
        ways = Lanes([(x, y, x + width, y + height) for x, y, width, height in (frame["bounding"] for frame in frames)])
        drawn = []
        for number, origin, slot, target, entry, _ in links:
            if origin in nodes:
                (x, y), (to_x, to_y) = nodes[origin].position, nodes[target].position
                start = (x + nodes[origin].size[0], y + SOCKET_HEIGHT * (slot + 0.5))
                drawn.append(Link(number, (origin, slot), start, (to_x, to_y + SOCKET_HEIGHT * (entry + 0.5))))
        ways.add(
            drawn, [(*node.position, *map(sum, zip(node.position, node.size, strict=True))) for node in self.nodes]
        )
        return ways.extra()

    def _node_json(
        self, order: int, node: Node, joined: dict[tuple[int, str], int], without_models: bool
    ) -> dict[str, Any]:
        inputs = [
            {"name": entry.name, "type": entry.type, "link": joined.get((node.number, entry.name))}
            | ({} if entry.socket else {"widget": {"name": entry.name}})
            for entry in node.shown_inputs
        ]
        used: dict[int, list[int]] = {}
        for stage in self.stages:
            for other in stage.nodes:
                for name, source in other.links.items():
                    if source.node is node:
                        used.setdefault(source.slot, []).append(joined[other.number, name])
        outputs = [
            {"name": name, "type": kind, "slot_index": slot, "links": sorted(used.get(slot, [])) or None}
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
