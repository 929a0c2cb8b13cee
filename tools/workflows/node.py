"""One node of a described workflow: its sockets, values, size and place."""

from dataclasses import dataclass, field
from typing import Any

from .library import Input, NodeType
from .subgraphs import INSIDE

SOCKET_HEIGHT, WIDGET_HEIGHT, NODE_PADDING = 22, 26, 20
NODE_WIDTH = 330
# Room below the widgets for the picture or clip that the interface shows in the node.
PREVIEW_HEIGHT = {
    "KSampler": 280,  # a player, once it samples an exported model
    "LoadImage": 260,
    "MaskPreview": 260,
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
    "VHS_VideoCombine": 300,
    "CLIPTextEncode": 100,  # so has its text
}


@dataclass(frozen=True)
class Start:
    """The input side of a subgraph, in place of a node at the start of a link."""

    number: int = INSIDE


@dataclass(frozen=True)
class Output:
    """One output socket of `node`, which is a Node, a Start, or a Fold of the graph."""

    node: Any
    slot: int
    type: str


@dataclass(eq=False)
class Node:
    """One node in the graph; `values` are its widgets, `links` its linked inputs.

    Without foreign models the node is switched to `without` (a key of MODES) and its widgets to `small`. inside: it is
    in a subgraph, where ComfyUI 0.3.64 finds links by the place among all inputs, sockets first.
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
    inside: bool = False

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
        if self.inside:
            return [*self.type.sockets, *self.type.widgets]
        return [entry for entry in self.type.inputs.values() if entry.socket or entry.name in self.links]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in the editor's units, on the large side: newer interfaces draw taller widgets."""
        dots = [entry for entry in self.shown_inputs if entry.socket or entry.name in self.links]
        sockets = max(len(dots), len(self.type.outputs))
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
