"""JSON from untrusted files: accepted and refused texts, and text that is safe to show."""

import json
from pathlib import Path

import pytest

from svd_core.files import JsonError, is_number, is_whole, parse_json, printable, read_json

VALUE = {"a": [1, -2.5, "größer", None, True], "b": {"c": 2**63 - 1}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str, tmp_path: Path) -> None:
    text = json.dumps(VALUE, ensure_ascii=False)
    assert parse_json(text.encode(encoding)) == parse_json(text) == VALUE
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read_json(tmp_path / "a.json") == VALUE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("1e400", "1e400 is too large"),
        (str(2**64), "18446744073709551616 is too large"),
        ("-" + "9" * 19, "too large"),
        ("1" * 5000, "too large"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ("[" * 1_000_000, "nested deeper than 64 levels"),
        (r'{"a": ["\ud800"]}', "lone surrogate"),
        (r'{"\udfff": 1}', "lone surrogate"),
        ("[1,]", "not valid JSON"),
        ("", "not valid JSON"),
        (b"\xff\xff", "not valid JSON"),
        ('"\x1b[31m', r"not valid JSON"),
    ],
)
def test_what_no_reader_should_meet_is_refused_in_a_short_sentence(text: str | bytes, words: str) -> None:
    with pytest.raises(JsonError, match=words) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 200 and str(caught.value).isprintable()


def test_sizes_and_depths_up_to_the_limit_are_read(tmp_path: Path) -> None:
    assert parse_json("[" * 64 + "]" * 64)
    assert parse_json('"1234"', most_bytes=6) == "1234"
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"
    with pytest.raises(JsonError, match="7 bytes of JSON; at most 6 are read"):
        parse_json('"12345"', most_bytes=6)
    (tmp_path / "a.json").write_text('"' + "1" * 100 + '"')
    with pytest.raises(JsonError, match="at most 6 are read"):
        read_json(tmp_path / "a.json", most_bytes=6)


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [(1, True, True), (0, False, True), (True, False, False), (1.0, False, True), (float("nan"), False, False),
     (float("inf"), False, False), (10**400, False, False), ("1", False, False), (None, False, False),
     (-7, False, True)],
)  # fmt: skip
def test_numbers_are_separated_from_other_values(value: object, whole: bool, number: bool) -> None:
    assert is_whole(value, 1, 9) is whole
    assert is_number(value, 1e6) is number


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer \u732b", "größer \u732b"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\x00", r"a\nb\x00"),
        ("\ud800", r"\ud800"),
        ("x" * 81, "x" * 77 + "..."),
        (ValueError("a\tb"), r"a\tb"),
    ],
)
def test_text_of_strangers_is_shown_without_control_characters(text: object, shown: str) -> None:
    assert printable(text) == shown
