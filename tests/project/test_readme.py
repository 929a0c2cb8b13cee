"""README and docs are true: nodes, widgets, options, values and parameters exist, and numbers are those measured."""

import re
from dataclasses import fields

import pytest

from svd_core import AnimateSettings
from svd_core.cli.main import main
from svd_core.cli.plan import config_by_name, plan_clip
from svd_core.controls.camera.moves import MOVES
from svd_core.pipelines.planned import planned_clip
from svd_core.plan.memory_plan import GIB
from tests.helpers.nodes_pack import ROOT, pack

README = (ROOT / "README.md").read_text(encoding="utf-8")
MEMORY = (ROOT / "docs" / "memory_and_time.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
MIGRATION = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of all table rows below a heading and before the next one, without the heads of the tables."""
    part = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    heads = {number for number, line in enumerate(lines) if number + 1 < len(lines) and "---" in lines[number + 1]}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for n, line in enumerate(lines) if n not in heads]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def nodes_in(cell: str) -> list[type]:
    """Node classes whose display names are in a cell; the longest names first, so that parts of names do not count."""
    found = []
    names = {pack().NODE_DISPLAY_NAME_MAPPINGS[key].removesuffix(" (SVD)"): key for key in pack().NODE_CLASS_MAPPINGS}
    for name in sorted(names, key=len, reverse=True):
        if name in cell:
            cell = cell.replace(name, "")
            found.append(pack().NODE_CLASS_MAPPINGS[names[name]])
    return found


def inputs_of(node: type) -> dict[str, tuple]:
    """Inputs of a node by name."""
    groups = node.INPUT_TYPES()
    return {**groups["required"], **groups.get("optional", {})}


def accepts(entry: tuple, value: str) -> bool:
    """Whether a widget takes a value, as text."""
    kind, options = entry
    if "options" in options or isinstance(kind, list):
        return value in options.get("options", kind)
    return options["min"] <= float(value) <= options["max"]


def test_the_readme_is_short_and_its_pictures_are_small() -> None:
    assert len(README.split()) <= 2000
    moving = [ROOT / name for name in re.findall(r"\((docs/\w+\.(?:webp|gif))\)", README)]
    assert moving and sum(path.stat().st_size for path in moving) <= 2**20


@pytest.mark.parametrize("row", rows(README, "What do you want to do?"), ids=lambda row: row[0])
def test_every_wish_names_widgets_and_values_that_exist(row: list[str]) -> None:
    wish, cell, change = row
    nodes = nodes_in(cell)
    assert nodes or "](docs/" in change, f"no node of ours for: {wish}"
    known: dict[str, tuple] = {}
    for node in nodes:
        known |= inputs_of(node)
    for code in re.findall(r"`([^`]+)`", change):
        name, _, value = code.partition(" = ")
        assert name in known, f"{wish}: {name}"
        assert not value or any(name in inputs_of(n) and accepts(inputs_of(n)[name], value) for n in nodes), code


@pytest.mark.parametrize("row", rows(MEMORY, "What fits on which card")[:5], ids=lambda row: row[0])
def test_the_memory_table_is_what_the_planner_says(row: list[str]) -> None:
    for cell, variant in ((row[1], "svd"), (row[2], "svd_xt")):
        config = config_by_name(variant)
        plan = plan_clip(config, planned_clip(config), int(row[0].removesuffix(" GB")))
        assert cell.startswith(f"{plan.needs / GIB:.1f} GiB"), plan.text()
        kinds = {"resident": "resident", "one network at a time": "one at a time", "streamed": "streamed"}
        assert any(words in cell and kind in plan.text() for words, kind in kinds.items()), plan.text()
        assert ("recomputes" in cell) == ("decode: recompute" in plan.text())


MEASURED = {
    "10 steps of align-your-steps": "align your steps, 10",
    "12 steps of DPM++ 2M": "12 steps of DPM++ 2M",
    "guidance only from sigma 50 to 0.3": "guidance only in its interval",
    "cached features, interval 2, depth 2": "features reused, interval 2, depth 2",
    "cached features, interval 3, depth 2": "features reused, interval 3, depth 2",
    "all of a draft: 10 steps, guidance interval, cached features": "all of a draft: 10 steps, interval, reuse 2",
}


@pytest.mark.parametrize("row", [row for row in rows(MEMORY, "Faster clips") if row[0] in MEASURED], ids=lambda r: r[0])
def test_the_figures_of_faster_clips_are_those_of_the_benchmark(row: list[str]) -> None:
    table = (ROOT / "benchmarks" / "results" / "approximate.md").read_text(encoding="utf-8")
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {MEASURED[row[0]]} |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert row[3] == cells[3] and abs(float(row[4].removesuffix(" dB")) - float(cells[5])) <= 0.51


def test_every_measured_row_is_on_the_page() -> None:
    assert {row[0] for row in rows(MEMORY, "Faster clips")} >= set(MEASURED)


def test_the_figures_in_the_readme_are_those_of_the_memory_table() -> None:
    table = {row[0]: row[2].split(" GiB")[0] for row in rows(MEMORY, "What fits on which card")}
    said = re.search(r"planned at ([\d.]+) GiB, at ([\d.]+) GiB for an 8 GB card, and at ([\d.]+) GiB", README)
    assert said and said.groups() == (table["24 GB"], table["8 GB"], table["6 GB"])


@pytest.mark.parametrize(("command", "left_out"), [("animate", 0), ("orbit", 8), ("finish", 4)])
def test_the_options_on_the_command_line_page_exist(command: str, left_out: int, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    known = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out)) - {"--help", "--quiet", "--model"}
    page = COMMANDS.split(f"## {command}\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"--[a-z][\w-]+", page)) - {"--model"}
    assert named <= known, f"the page names options that do not exist: {named - known}"
    assert len(known - named) <= left_out, f"the page lacks {known - named}"


@pytest.mark.parametrize("row", [r for r in rows(MIGRATION, "diffusers' StableVideoDiffusionPipeline")])
def test_parameters_of_diffusers_have_ours(row: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["animate", "--help"])
    help_text = capsys.readouterr().out
    for flag in re.findall(r"`(--[\w-]+)", row[2]):
        assert flag in help_text
    settings = {field.name for field in fields(AnimateSettings)}
    for name in re.findall(r"`([a-z_]+)`", row[1]):
        assert name in settings or name in ("memory",), name


@pytest.mark.parametrize("heading", ["ComfyUI's own nodes", "thecooltechguy's ComfyUI-Stable-Video-Diffusion"])
def test_widgets_that_older_nodes_lead_to_exist(heading: str) -> None:
    for row in rows(MIGRATION, heading):
        known = {name for node in nodes_in(" ".join(row[1:])) for name in inputs_of(node)}
        if not known:
            continue
        for name in re.findall(r"`([a-z_]+)`", row[1].split("is in")[0]):
            choices = {
                str(value)
                for node in nodes_in(" ".join(row))
                for kind, options in inputs_of(node).values()
                for value in options.get("options", kind if isinstance(kind, list) else ())
            }
            assert name in known or name in choices, f"{row[0]}: {name}"


CONTROL = (ROOT / "docs" / "control.md").read_text(encoding="utf-8")


def test_the_table_of_camera_moves_is_that_of_the_code() -> None:
    part = CONTROL.split("### Camera\n", 1)[1].split("\n### ", 1)[0]
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| `")
    ]
    assert {row[0].strip("`") for row in table} == set(MOVES) - {"static"}
    for name, directions, amount, usual, _ in table:
        kind = MOVES[name.strip("`")]
        assert [side.strip() for side in directions.split(",") if side.strip()] == list(kind.directions or ())
        assert amount.endswith(f"{kind.low:g} to {kind.high:g}") and float(usual) == kind.usual
