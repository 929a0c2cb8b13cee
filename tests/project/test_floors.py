"""Rooms and floors: every file belongs to a room, no import runs upwards or in a circle, all tables agree."""

import re
from pathlib import Path

import pytest

from tools import import_graph as house

CONTRIBUTING = (house.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return house.file_graph()


def printed_floors(text: str) -> list[tuple[int, str]]:
    """Return (floor, room) of every row of CONTRIBUTING's table, from the top."""
    return [(int(floor), room) for floor, room in re.findall(r"^\| (\d+) \| `([^`]+?)/?` \|", text, re.MULTILINE)]


def tree(root: Path, files: dict[str, str]) -> dict[str, set[str]]:
    """Write files below `root` and return the graph of what they import."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return house.file_graph(root)


def test_every_file_belongs_to_a_room(graph: dict[str, set[str]]) -> None:
    assert len(graph) > 200
    assert house.strangers(graph) == []


def test_no_import_runs_upwards(graph: dict[str, set[str]]) -> None:
    assert house.upward_imports(graph) == []


def test_neither_rooms_nor_files_import_in_circles(graph: dict[str, set[str]]) -> None:
    assert house.circles(house.room_graph(graph)) == []
    assert house.circles(graph) == []


def test_contributing_prints_the_same_table() -> None:
    floors = [(number, room) for number, rooms in enumerate(house.FLOORS, 1) for room in rooms]
    printed = printed_floors(CONTRIBUTING)
    assert sorted(printed) == sorted(floors)
    assert [floor for floor, _ in printed] == sorted((floor for floor, _ in floors), reverse=True)


@pytest.mark.parametrize(
    "statement",
    [
        "from ..pipelines import animate\n",
        "def f():\n    from ..pipelines import animate\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..pipelines.animate import run\n",
        "import svd_core.pipelines.animate\n",
    ],
    ids=["plain", "in a function", "for types", "absolute"],
)
def test_an_import_upwards_is_found_wherever_it_stands(tmp_path: Path, statement: str) -> None:
    found = tree(tmp_path, {"svd_core/networks/unet.py": statement, "svd_core/pipelines/animate.py": ""})
    assert house.upward_imports(found) == [
        "svd_core/networks/unet.py (floor 3) -> svd_core/pipelines/animate.py (floor 5)"
    ]


def test_an_import_from_the_same_floor_counts_as_upwards(tmp_path: Path) -> None:
    found = tree(tmp_path, {"svd_core/sampling/a.py": "from ..networks import b\n", "svd_core/networks/b.py": ""})
    assert len(house.upward_imports(found)) == 1


def test_a_circle_of_files_is_found(tmp_path: Path) -> None:
    found = tree(
        tmp_path,
        {
            "svd_core/flow/a.py": "from . import b\n",
            "svd_core/flow/b.py": "def f():\n    from .c import g\n",
            "svd_core/flow/c.py": "from .a import h\n",
        },
    )
    assert house.circles(found) == [["svd_core/flow/a.py", "svd_core/flow/b.py", "svd_core/flow/c.py"]]


def test_a_file_of_no_room_is_found(tmp_path: Path) -> None:
    found = tree(tmp_path, {"svd_core/helpers.py": "", "svd_core/flow/a.py": "", "svd_core/__init__.py": ""})
    assert house.strangers(found) == ["svd_core/helpers.py"]
