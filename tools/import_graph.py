"""The import graph of the project: rooms, floors, upward imports and circles.

    python -m tools.import_graph            # the floors, every import that runs upwards, every circle
    python -m tools.import_graph --files    # also every import between rooms, file by file

Imports inside functions and under TYPE_CHECKING count like all others. `FLOORS` is an allow-list: a file outside its
rooms is reported. CONTRIBUTING.md prints the same table.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The lowest floor first. A room may import from rooms on lower floors only.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "svd_core/condition.py",
        "svd_core/memory.py",
        "svd_core/files.py",
        "svd_core/charts.py",
        "svd_core/stopping.py",
    ),
    ("svd_core/pictures", "svd_core/flow"),
    ("svd_core/networks", "svd_core/sampling", "svd_core/report", "svd_core/video"),
    ("svd_core/model", "svd_core/controls", "svd_core/finish"),
    ("svd_core/plan", "svd_core/checkpoints", "svd_core/pipelines"),
    ("svd_core/lora", "svd_core/lab", "svd_core/storyboard", "svd_core/doctor"),
    ("svd_core/training", "svd_core/batch"),
    ("nodes", "svd_core/cli"),
    ("tools", "recipes", "benchmarks"),
)
# These hold no code of their own: they name what the package offers, or start it.
FRONT_DOORS = ("__init__.py", "svd_core/__init__.py", "svd_core/api.py", "svd_core/__main__.py", "svd_core/version.py")
CODE = ("svd_core", "nodes", "benchmarks", "tools", "recipes")


def source_files(root: Path = ROOT) -> list[Path]:
    """Return every Python file of the project but its tests, relative to `root`."""
    return sorted(path.relative_to(root) for folder in CODE for path in (root / folder).rglob("*.py"))


def room_of(path: str) -> str | None:
    """Return the room that owns `path` ("svd_core/controls/camera/warp.py"), None for a front door or a stranger."""
    rooms = [room for floor in FLOORS for room in floor]
    owners = [room for room in rooms if path == room or path.startswith(f"{room}/")]
    return max(owners, key=len, default=None)


def floor_of(room: str) -> int:
    """Return the floor of a room, 1 for the lowest."""
    return next(number for number, rooms in enumerate(FLOORS, 1) if room in rooms)


def imported_files(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield every file of the project that `path` imports, at any place in the file."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            bases = [(tuple(alias.name.split(".")), ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = (*start, *(node.module or "").split(".")) if node.module else start
            bases = [(base, (alias.name,)) for alias in node.names]
        else:
            continue
        for base, name in bases:
            found = _module_file((*base, *name), root) or _module_file(base, root)
            if found and found != path.as_posix():
                yield found


def _module_file(parts: tuple[str, ...], root: Path) -> str | None:
    if not parts or parts[0] not in CODE:
        return None
    for candidate in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
        if (root / candidate).is_file():
            return candidate.as_posix()
    return None


def file_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Return every file with the files that it imports."""
    return {path.as_posix(): set(imported_files(path, root)) for path in source_files(root)}


def strangers(graph: dict[str, set[str]]) -> list[str]:
    """Return the files that belong to no room."""
    return [path for path in graph if room_of(path) is None and path not in FRONT_DOORS]


def upward_imports(graph: dict[str, set[str]]) -> list[str]:
    """Return "file -> file" for every import from another room on the same or a higher floor."""
    found = []
    for path, targets in graph.items():
        here = room_of(path)
        for target in sorted(targets):
            there = room_of(target)
            if here and there and here != there and floor_of(there) >= floor_of(here):
                found.append(f"{path} (floor {floor_of(here)}) -> {target} (floor {floor_of(there)})")
            elif here and target in ("svd_core/__init__.py",) and here.startswith("svd_core"):
                found.append(f"{path} -> {target}, the front door")
    return found


def circles(graph: dict[str, Iterable[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach one another (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def room_graph(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return every room with the other rooms that it imports from."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for path, targets in graph.items():
        here = room_of(path)
        if here:
            rooms[here] |= {there for target in targets if (there := room_of(target)) and there != here}
    return dict(rooms)


def main(arguments: list[str]) -> int:
    """Print the graph; return 1 if it breaks a rule."""
    graph = file_graph()
    rooms = room_graph(graph)
    for number in range(len(FLOORS), 0, -1):
        for room in FLOORS[number - 1]:
            print(f"{number}  {room:24} imports {', '.join(sorted(rooms.get(room, ()))) or 'nothing'}")
    if "--files" in arguments:
        for path, targets in graph.items():
            for target in sorted(targets):
                if room_of(path) != room_of(target):
                    print(f"   {path} -> {target}")
    problems = [f"belongs to no room: {path}" for path in strangers(graph)]
    problems += [f"runs upwards: {line}" for line in upward_imports(graph)]
    problems += [f"circle of rooms: {' '.join(group)}" for group in circles(rooms)]
    problems += [f"circle of files: {' '.join(group)}" for group in circles(graph)]
    print(*problems, sep="\n")
    print(f"{len(rooms)} rooms, {len(FLOORS)} floors, {len(graph)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
