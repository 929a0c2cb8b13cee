"""Load the pack as ComfyUI does, under a folder name that is not an identifier, and give it a model."""

import importlib
import importlib.util
import inspect
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from safetensors.torch import save_file

from .checkpoint_files import FEW_LAYERS, FEW_LAYERS_METADATA, TINY, small_tensors, tiny_tensors

ROOT = Path(__file__).resolve().parents[2]
MODULE = "/somewhere/custom_nodes/ComfyUI-SVD-Reel"


@lru_cache(maxsize=1)
def pack() -> ModuleType:
    """The pack, imported once."""
    spec = importlib.util.spec_from_file_location(MODULE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def part(name: str) -> ModuleType:
    """A module of the pack, such as `nodes.host.comfy`, as the pack itself sees it."""
    pack()
    return importlib.import_module(f"{MODULE}.{name}")


def write_tiny(path: Path, name: str = "svd_xt_tiny", seed: int = 0) -> Path:
    """A whole random checkpoint of a few channels: 4 frames of 64x64 pixels."""
    save_file(dict(tiny_tensors(name, seed)), path, metadata=TINY)
    return path


def write_few_layers(path: Path) -> Path:
    """A whole random checkpoint of as few layers as there can be: 4 frames of 64x64 pixels."""
    save_file(dict(small_tensors(FEW_LAYERS)), path, metadata=FEW_LAYERS_METADATA)
    return path


def defaults(node: type) -> dict:
    """Widget values of a fresh node."""
    groups = node.INPUT_TYPES()
    entries = {**groups["required"], **groups.get("optional", {})}
    return {name: options["default"] for name, (_, options) in entries.items() if "default" in options}


def run(node_id: str, **given) -> tuple:
    """Execute a node with its defaults, except for what is given."""
    node = pack().NODE_CLASS_MAPPINGS[node_id]
    values = defaults(node) | given
    needed = inspect.signature(node.execute).parameters
    return getattr(node(), node.FUNCTION)(**{name: value for name, value in values.items() if name in needed})


def outputs(node_id: str, **given) -> tuple:
    """Execute a node as `run` does and return its outputs, without what it shows in a real host."""
    made = run(node_id, **given)
    return made["result"] if isinstance(made, dict) else made
