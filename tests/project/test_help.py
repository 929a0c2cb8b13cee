"""The help pages that ComfyUI shows: one for every node, up to date with the code, and without dead links."""

import hashlib
import re
from pathlib import Path

import pytest
from PIL import Image

from tools.help import drawn
from tools.help.pages import (
    DOCS,
    PICTURES,
    all_pages,
    make_page,
    page_path,
    repository,
    stale_pages,
)
from tools.help.pictures import LARGEST, few_colours, maker_of
from tools.help.prose import LANGUAGES, PROSE, PageError
from tools.help.tables import cell, entries, node_class, node_ids
from tools.workflows.library import ROOT, host_nodes, host_versions, load_pack

NODES = node_ids()
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
# Emphasised words of one piece are names of inputs and outputs.
NAME = re.compile(r"(?<![*\w])\*([a-z][a-z0-9_]*)\*(?![*\w])")
WIDEST = 720

every_node = pytest.mark.parametrize("node_id", NODES)
every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(node_id: str) -> str:
    return read(PROSE / "en" / f"{node_id}.md")


def section(text: str, title: str) -> str:
    """Return the text below a heading, up to the next one."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def pictures() -> list[Path]:
    return sorted(path for path in (DOCS / PICTURES).iterdir() if path.is_file())


def test_comfyui_finds_the_pages_where_only_pages_and_pictures_are():
    folder = ROOT / load_pack().WEB_DIRECTORY
    assert folder / "docs" == DOCS
    assert {path.suffix for path in DOCS.rglob("*") if path.is_file()} <= {".md", ".png", ".jpg"}


@every_node
def test_every_node_has_a_page_where_comfyui_looks(node_id):
    assert page_path(node_id, "en") == ROOT / "web" / "docs" / f"{node_id}.md"
    assert page_path(node_id, "zh") == ROOT / "web" / "docs" / node_id / "zh.md"
    assert page_path(node_id, "en").is_file()


def test_pages_are_what_prose_and_code_make():
    assert stale_pages() == []
    assert set(PAGES) == set(all_pages())


@every_node
def test_every_input_and_output_is_listed_with_what_it_does(node_id):
    node = node_class(node_id)
    inputs, _, outputs = section(read(page_path(node_id, "en")), "Parameters").partition("**Outputs**")
    rows = {line.split(": ")[0].removeprefix("- "): line for line in inputs.splitlines()}
    for name, (kind, *more), _ in entries(node):
        row, options = rows[f"`{name}`"], more[0]
        assert cell(options["tooltip"]) in row
        if kind in ("INT", "FLOAT"):
            high = "2^64 - 1" if options["max"] == 2**64 - 1 else f"{options['max']:.12g}"
            assert f"{options['min']:.12g} to {high}; " in row
            assert f"default {options['default']:.12g}" in row
        elif isinstance(kind, (list, tuple)):
            assert f"default `{options['default']}`" in row
    for name, kind, tooltip in zip(node.RETURN_NAMES, node.RETURN_TYPES, node.OUTPUT_TOOLTIPS, strict=True):
        assert f"- `{name}`: {cell(tooltip)}<br><sub>`{kind}`</sub>" in outputs


@every_node
def test_a_page_says_when_how_and_what_goes_wrong(node_id):
    text = prose(node_id)
    opening = text.partition("{{picture")[0]
    assert len(opening.split()) >= 30
    assert 15 <= len(text.splitlines()) <= 50
    assert len(re.findall(r"^- \*\*", section(text, "Recipes"), re.MULTILINE)) >= 2
    assert len(re.findall(r"^- ", section(text, "Pitfalls"), re.MULTILINE)) >= 2
    linked = {target for _, _, target in LINK.findall(text) if target.startswith("SVDReel")}
    assert len(linked - {f"{node_id}.md"}) >= 2 and f"{node_id}.md" not in linked


def test_every_page_is_linked_from_another():
    linked = {
        (node_id, target.removesuffix(".md")) for node_id in NODES for _, _, target in LINK.findall(prose(node_id))
    }
    assert set(NODES) <= {target for source, target in linked if source != target}


@every_page
def test_every_link_and_picture_resolves(path):
    # The panel puts the folder of the pages before pictures, and opens other links as they are.
    for picture, words, target in LINK.findall(read(path)):
        assert words.strip()
        if picture:
            assert (DOCS / target).is_file() and target.startswith(f"{PICTURES}/"), target
            assert '"' not in words, "ComfyUI puts these words between double quotes as they are"
        else:
            assert target.startswith("https://"), f"{target} would be looked for beside ComfyUI's own page"
            inside = target.removeprefix(f"{repository()}/")
            assert inside == target or (ROOT / inside).is_file(), target


@every_page
def test_a_page_holds_no_html_that_comfyui_would_take_out(path):
    text = re.sub(r"```.*?```|`[^`]*`", "", read(path), flags=re.DOTALL)
    # A break and small letters, which the panel and GitHub both keep.
    assert set(re.findall(r"<(?!!--)/?\w[^>]*>", text)) <= {"<br>", "<sub>", "</sub>"}
    # The panel is 270 pixels wide: a table would have to be scrolled.
    assert not re.search(r"^\|", read(path), re.MULTILINE)
    assert "{{" not in text


@every_node
def test_names_in_the_prose_are_names_of_inputs_and_outputs(node_id):
    known = {name for other in NODES for name, _, _ in entries(node_class(other))}
    known |= {name for other in NODES for name in node_class(other).RETURN_NAMES}
    for entry in host_nodes(host_versions()[0]).values():
        known |= set(entry.inputs)
    spoken = {"svd", "dolly", "truck", "pedestal", "orbit", "arc", "pan", "tilt", "zoom", "roll"}  # moves
    assert set(NAME.findall(prose(node_id))) <= known | spoken


@every_node
def test_values_in_recipes_are_choices_of_the_widgets_that_they_name(node_id):
    choices = {
        name: [str(option) for option in spec[0]]
        for name, spec, _ in entries(node_class(node_id))
        if isinstance(spec[0], (list, tuple)) and not any(str(option).endswith("(embedded)") for option in spec[0])
    }
    for name, value in re.findall(r"\*([a-z_]+)\* `([^`]+)`", prose(node_id)):
        if name in choices:
            assert value in choices[name], f"{name} has no {value}"


@every_node
def test_numbers_in_recipes_are_within_the_widgets_that_they_name(node_id):
    limits = {name: spec[1] for name, spec, _ in entries(node_class(node_id)) if spec[0] in ("INT", "FLOAT")}
    for name, number in re.findall(r"\*([a-z_]+)\* (-?\d+(?:\.\d+)?)(?![\d:,])", prose(node_id)):
        if name in limits:
            assert limits[name]["min"] <= float(number) <= limits[name]["max"], f"{name} {number}"


@every_node
def test_templates_that_are_named_exist(node_id):
    sentence = re.findall(r"Templates?:? [^.]*\.|template `[^`]+`", prose(node_id))
    for name in re.findall(r"`([^`]+)`", " ".join(sentence)):
        assert (ROOT / "workflows" / f"{name}.json").is_file(), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_presets_of_motion_are_listed_with_their_numbers(language):
    source = PROSE / language / "SVDReelMotion.md"
    if not source.exists():
        pytest.skip("no prose in this language yet")
    listed = {
        row[0]: tuple(float(value) for value in row[1:])
        for row in re.findall(
            r"^- `([^`]+)`[^:\uff1a]*[:\uff1a]\D*([\d.]+)\D+([\d.]+)\D+([\d.]+)$", read(source), re.MULTILINE
        )
    }
    presets = load_pack().nodes.condition.PRESETS
    wanted = {
        name: (motion.motion_bucket_id, motion.fps, motion.augmentation_level)
        for name, motion in presets.items()
        if motion is not None
    }
    assert listed == wanted


def test_a_node_without_a_picture_function_is_drawn_with_its_sockets():
    class SVDReelNew(node_class(NODES[0])):
        DISPLAY_NAME = "New (SVD)"

    assert maker_of("SVDReelColorMatch").__name__ == "color_match"
    card = drawn.node_card(SVDReelNew)
    assert 400 <= card.width <= WIDEST and few_colours(card)


def test_every_node_has_a_small_picture_of_its_own():
    assert sorted(path.stem for path in pictures()) == sorted(NODES)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures()}) == len(NODES)
    for path in pictures():
        assert path.stat().st_size <= LARGEST, path.name
        with Image.open(path) as picture:
            assert 400 <= picture.width <= WIDEST and 80 <= picture.height <= 1200, (path.name, picture.size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("{{parameters}}", ""), "parameters"),
        (lambda text: re.sub(r"\{\{picture.*\}\}", "", text), "picture"),
        (lambda text: text + "\n[nowhere](SVDReelNowhere.md)\n", "neither a page nor a file"),
        (lambda text: text + "\n[outside](../../../../../secret.txt)\n", "neither a page nor a file"),
    ],
)
def test_prose_that_lacks_a_part_or_links_nowhere_is_refused(change, message, monkeypatch):
    node_id = NODES[0]
    source, text, usual = PROSE / "en" / f"{node_id}.md", change(prose(node_id)), Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **how: text if self == source else usual(self, **how))
    with pytest.raises(PageError, match=message):
        make_page(node_id, "en")
