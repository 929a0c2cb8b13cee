"""`python -m tools.nodes` writes `nodes/__init__.py` from the node files; --check prints it if it is out of date.

A node file ends with `NODES = [...]`, and each of its classes has its name in the editor as `DISPLAY_NAME`. The files
are parsed, not imported, so that an outdated `nodes/__init__.py` causes no error.
"""

import argparse
import ast
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "nodes"
TARGET = FOLDER / "__init__.py"
HEAD = '''"""The pack's nodes, one file per group; only `host/comfy.py` imports ComfyUI.

Written by `python -m tools.nodes`.
"""
'''
COMMENT = "# Literal, because pack managers read both without importing the pack.\n"


class NodeFileError(ValueError):
    """A node file whose list or names cannot be read."""


@dataclass(frozen=True)
class NodeEntry:
    """One node: the module and class that define it, and its name in the editor."""

    module: str
    id: str
    display_name: str


def find_nodes(folder: Path = FOLDER) -> list[NodeEntry]:
    """Return the nodes of all node files, by file name and then in the order of NODES."""
    found = []
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            found += _entries_of(path)
    return found


def render(entries: list[NodeEntry]) -> str:
    """Return the text of `nodes/__init__.py`."""
    classes: dict[str, list[str]] = {}
    for entry in entries:
        classes.setdefault(entry.module, []).append(entry.id)
    imports = {f"{module}": f"from .{module} import {', '.join(sorted(ids))}" for module, ids in classes.items()}
    imports["host.comfy"] = "from .host.comfy import register_model_folder"
    imports["shared.sockets"] = "from .shared.sockets import check_inputs"
    lines = [
        HEAD,
        *(imports[module] for module in sorted(imports)),
        "",
        COMMENT + "NODE_CLASS_MAPPINGS = {",
        *(f'    "{entry.id}": {entry.id},' for entry in entries),
        "}",
        "",
        "NODE_DISPLAY_NAME_MAPPINGS = {",
        *(f'    "{entry.id}": "{entry.display_name}",' for entry in entries),
        "}",
        "",
        "for _node in NODE_CLASS_MAPPINGS.values():",
        "    check_inputs(_node)",
        'for _name in ("svd", "diffusers", "clip_vision"):',
        "    register_model_folder(_name)",
    ]
    return "\n".join(lines) + "\n"


def _entries_of(path: Path) -> list[NodeEntry]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.name: value for node in tree.body if isinstance(node, ast.ClassDef) if (value := _display_name(node))}
    listed = [value for name, value in _assignments(tree.body) if name == "NODES"]
    ids = [item.id for item in listed[0].elts] if listed else []
    if unnamed := [name for name in ids if name not in names]:
        raise NodeFileError(f"{path.name}: {', '.join(unnamed)} in NODES has no DISPLAY_NAME; add one to the class")
    if unlisted := [name for name in names if name not in ids]:
        raise NodeFileError(f"{path.name}: {', '.join(unlisted)} is not in NODES; add it to the list at the end")
    return [NodeEntry(path.stem, name, names[name]) for name in ids]


def _display_name(node: ast.ClassDef) -> str:
    values = [value.value for name, value in _assignments(node.body) if name == "DISPLAY_NAME"]
    return values[0] if values else ""


def _assignments(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
    assigned = [statement for statement in body if isinstance(statement, ast.Assign)]
    return [(target.id, one.value) for one in assigned for target in one.targets if isinstance(target, ast.Name)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.nodes", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; print the file where it is out of date")
    text = render(find_nodes())
    current = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
    if parser.parse_args().check:
        print("nodes/__init__.py is up to date" if current else text)
        sys.exit(not current)
    if not current:
        TARGET.write_text(text, encoding="utf-8", newline="\n")
        print("nodes/__init__.py")
