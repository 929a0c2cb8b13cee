"""The Chinese of the pack: every name, tooltip and help page is there and follows the current English."""

import json
import re

import pytest

from tests.helpers.nodes_pack import ROOT
from tools.help import translations

LANGUAGE = "zh"
# Other keys are read by nobody: options of a widget, for one, are labelled by the pack's own script.
KEYS = {"display_name", "description", "inputs", "outputs"}
# Chinese stands in no Python file: some tools read those in their own code page.
DATA = json.loads((ROOT / "tests" / "data" / "translations.json").read_text(encoding="utf-8"))


def test_everything_is_translated_from_the_english_of_now():
    assert translations.faults(LANGUAGE) == []


def test_node_definitions_have_only_the_keys_that_the_frontend_reads():
    for node_id, entry in json.loads(definitions().read_text(encoding="utf-8")).items():
        assert set(entry) == KEYS, node_id
        for part in (*entry["inputs"].values(), *entry["outputs"].values()):
            assert set(part) == {"name", "tooltip"}, node_id


def test_keys_need_no_escape():
    """The frontend finds a text by a path with dots in it, and changes dots in names of inputs to underscores."""
    for path in translations.english():
        assert path.count(".") in (1, 3), path
        assert not set(path) & set("[]'\""), path


def test_one_english_text_has_one_translation():
    """Equal English tooltips have equal translations, so that readers see no difference where there is none."""
    english, chinese = translations.english(), translations.translated(LANGUAGE)
    known: dict[str, set[str]] = {}
    for path, text in english.items():
        if path.endswith(".tooltip"):
            known.setdefault(text, set()).add(chinese.get(path, ""))
    assert {text: found for text, found in known.items() if len(found) > 1} == {}


def test_names_in_quotes_are_names_that_readers_find():
    """Nodes, inputs and outputs have the names of the editor, so that a renamed one is updated everywhere."""
    texts = translations.translated(LANGUAGE)
    names = {text for path, text in texts.items() if path.endswith((".name", ".display_name"))}
    names |= {re.sub(r"\uff08SVD\uff09$", "", name) for name in names} | set(DATA["host"])
    quoted = {(path, name) for path, text in texts.items() for name in re.findall(r"\u201c([^\u201d]+)\u201d", text)}
    assert {(path, name) for path, name in quoted if translations.HAN.search(name) and name not in names} == set()


@pytest.mark.parametrize(("path", "text", "fault"), DATA["faults"])
def test_a_fault_is_named(monkeypatch, path, text, fault):
    texts = translations.translated(LANGUAGE) | {path: text}
    monkeypatch.setattr(translations, "translated", lambda language: texts)
    named = [found for found in translations.faults(LANGUAGE) if found.startswith(path)]
    assert any(fault in found for found in named), named


def test_a_changed_english_text_asks_for_its_translation_until_it_is_accepted(monkeypatch, tmp_path):
    record = tmp_path / "sources.json"
    record.write_text(translations._record(LANGUAGE).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(translations, "_record", lambda language: record)
    path = "SVDReelPlan.inputs.steps.tooltip"
    changed = translations.english() | {path: "Steps of sampling. 0 takes the model's own number."}
    monkeypatch.setattr(translations, "english", lambda: changed)
    assert [found for found in translations.faults(LANGUAGE) if "older English" in found and path in found]
    before = json.loads(record.read_text(encoding="utf-8"))
    translations.accept(LANGUAGE, ["SVDReelPlan.inputs.steps"])
    after = json.loads(record.read_text(encoding="utf-8"))
    assert {key for key in after if after[key] != before.get(key)} == {path}
    assert not [found for found in translations.faults(LANGUAGE) if path in found]


@pytest.mark.parametrize(
    ("node_id", "options", "fault"),
    [
        ("SVDReelCondition", ["crop", "glue"], "options.glue is missing"),
        ("SVDReelCompare", [], "options.side by side belongs to no widget"),
    ],
)
def test_options_are_translated_or_kept_each(monkeypatch, node_id, options, fault):
    chosen = translations.options_of_node
    monkeypatch.setattr(translations, "options_of_node", lambda one: options if one == node_id else list(chosen(one)))
    assert any(found.startswith(fault) for found in translations.faults(LANGUAGE))


def definitions():
    return ROOT / "locales" / LANGUAGE / "nodeDefs.json"
