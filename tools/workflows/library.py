"""The known nodes: ours from their classes, ComfyUI's from lists that real servers returned."""

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HOST_LISTS = ROOT / "tests" / "data" / "host_nodes"
FOREIGN_LISTS = ROOT / "tests" / "data" / "foreign_nodes"
WIDGET_TYPES = {"BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "FLOAT", "INT", "STRING"}
PACK = "svd_reel_pack"
PACK_VERSION = "0.1.0"
# First versions of nodes that are older than the first list of ours that has them.
FIRST_VERSIONS = {"FrameInterpolationModelLoader": "0.20.0", "FrameInterpolate": "0.20.0"}


@dataclass(frozen=True)
class Input:
    """One input of a node: a socket, or a widget, which can be linked too. Limits are None where there are none."""

    name: str
    type: str
    optional: bool = False
    socket: bool = False
    default: Any = None
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    seed: bool = False

    def problem(self, value: Any) -> str:
        """Return what is wrong with a widget value, or an empty text. Empty combos accept any text (file names)."""
        expected = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}.get(self.type, str)
        if not isinstance(value, expected) or (isinstance(value, bool) and self.type != "BOOLEAN"):
            return f"{self.name} is {value!r}, no {self.type}"
        if self.low is not None and value < self.low or self.high is not None and value > self.high:
            return f"{self.name} is {value}, outside {self.low} to {self.high}"
        if self.options and value not in self.options:
            return f"{self.name} is {value!r}, none of {', '.join(self.options)}"
        return ""


@dataclass(frozen=True)
class NodeType:
    """One kind of node.

    outputs: pairs (name, type). output: whether ComfyUI runs the node even if nothing uses its outputs. ours: whether
    it belongs to this pack. since: the version of the pack or host that is needed, empty for any. pack: the registry
    name of the node's pack.
    """

    id: str
    inputs: dict[str, Input]
    outputs: tuple[tuple[str, str], ...]
    title: str
    ours: bool
    since: str
    pack: str = "comfy-core"
    output: bool = False

    @property
    def sockets(self) -> list[Input]:
        """Inputs without a widget, which need a link."""
        return [entry for entry in self.inputs.values() if entry.socket]

    @property
    def widgets(self) -> list[Input]:
        """Inputs with a widget, in the order in which a workflow stores their values."""
        return [entry for entry in self.inputs.values() if not entry.socket]


def load_pack() -> ModuleType:
    """Import the pack as ComfyUI does, under a separate name, without ComfyUI."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
    return sys.modules[PACK]


def own_nodes() -> dict[str, NodeType]:
    """Read this pack's nodes."""
    return {key: _from_class(key, node) for key, node in load_pack().NODE_CLASS_MAPPINGS.items()}


def host_nodes(version: str) -> dict[str, NodeType]:
    """Read the nodes of one ComfyUI version from tests/data/host_nodes."""
    listed = json.loads((HOST_LISTS / f"comfyui_{version}.json").read_text(encoding="utf-8"))
    return {key: _from_list(key, entry, FIRST_VERSIONS.get(key, version)) for key, entry in listed.items()}


def foreign_nodes() -> dict[str, NodeType]:
    """Return the nodes of other packs in tests/data/foreign_nodes/PACK.json."""
    found = {}
    for path in sorted(FOREIGN_LISTS.glob("*.json")):
        for key, entry in json.loads(path.read_text(encoding="utf-8")).items():
            found[key] = replace(_from_list(key, entry, ""), pack=path.stem)
    return found


def host_versions() -> list[str]:
    """Return the ComfyUI versions with a node list, oldest first."""
    versions = [path.stem.removeprefix("comfyui_") for path in HOST_LISTS.glob("comfyui_*.json")]
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])


def library() -> dict[str, NodeType]:
    """Return every node that a workflow may use: ours, ComfyUI's (from the oldest version), a few of other packs."""
    merged: dict[str, NodeType] = foreign_nodes()
    for version in reversed(host_versions()):
        merged.update(host_nodes(version))
    merged.update(own_nodes())
    return merged


def _from_class(key: str, node: type) -> NodeType:
    declared = node.INPUT_TYPES()
    inputs = {}
    for part in ("required", "optional"):
        for name, spec in declared.get(part, {}).items():
            kind, extra = spec[0], (spec[1] if len(spec) > 1 else {})
            options = kind if isinstance(kind, (list, tuple)) else extra.get("options", ())
            kind = "COMBO" if isinstance(kind, (list, tuple)) else kind
            inputs[name] = _input(name, kind, part == "optional", extra, tuple(options))
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    outputs, runs = tuple(zip(names, node.RETURN_TYPES, strict=True)), getattr(node, "OUTPUT_NODE", False)
    return NodeType(key, inputs, outputs, node.DISPLAY_NAME, True, PACK_VERSION, "svd-reel", runs)


def _from_list(key: str, entry: dict, since: str) -> NodeType:
    inputs = {
        name: _input(name, spec["type"], spec.get("optional", False), spec, tuple(spec.get("options", ())))
        for name, spec in entry["inputs"].items()
    }
    outputs = tuple(zip(entry["output_names"], entry["outputs"], strict=True))
    return NodeType(key, inputs, outputs, key, False, since, output=entry["output_node"])


def _input(name: str, kind: str, optional: bool, extra: dict, options: tuple[str, ...]) -> Input:
    socket = kind not in WIDGET_TYPES or extra.get("forceInput", False)
    default = extra.get("default", options[0] if options else None)
    # The interface always gives these two a second widget, "control after generate".
    seed = kind == "INT" and (bool(extra.get("control_after_generate")) or name in ("seed", "noise_seed"))
    return Input(name, kind, optional, socket, default, extra.get("min"), extra.get("max"), options, seed)
