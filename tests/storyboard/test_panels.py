"""Panels one by one: limits, defaults, aliases, orders of names, and short errors about long values."""

import json
import math
from pathlib import Path

import pytest

from svd_core import AnimateSettings, SVDModel
from svd_core.files import quoted
from svd_core.storyboard import Board, Panel, read_board
from svd_core.storyboard.film import FADE, plan_film
from svd_core.storyboard.panels import check_panel, parse_csv, parse_json, parse_text
from svd_core.storyboard.tables import JSONFault, first_repeated, read_json, read_table, read_text

# Each row: field, its lowest and highest value, and values beyond.
LIMITS = [
    ("seconds", 0.01, 3600, (0.0, 0.009, 3600.1, -1, math.nan, math.inf)),
    ("bucket", 0, 1023, (-1, 1023.5, math.nan)),
    ("fade", 0, 3600, (-0.1, 3600.5, math.inf)),
    ("seed", 0, 2**64 - 1, (-1, 2**64)),
]


@pytest.mark.parametrize(("name", "low", "high", "beyond"), LIMITS, ids=[row[0] for row in LIMITS])
def test_numbers_have_limits(name: str, low, high, beyond: tuple):
    for value in (low, high, None):
        assert getattr(check_panel(Panel(**{name: value})), name) == value
    for value in beyond:
        with pytest.raises(ValueError, match=rf"^row 4: .*{name}.*; use "):
            check_panel(Panel(**{name: value}, row="row 4"))


@pytest.mark.parametrize(("move", "expected"), [("none", ""), ("", ""), (None, None), ("zoom in 1.1", "zoom in 1.1")])
def test_move_none_is_a_free_camera(move, expected):
    assert check_panel(Panel(move=move)).move == expected


def test_open_fields_are_filled_and_given_ones_stay():
    own = Panel("a.png", seconds=0.5, move="", bucket=0, seed=0, transition="cut", fade=0.0, title="own", row="row 2")
    shared = Panel("b.png", 9, "pan left", 9, 9, "cross-fade", 9, "other", "row 9")
    assert own.filled(shared) == own
    assert Panel("a.png", row="row 2").filled(shared) == Panel(
        "a.png", 9, "pan left", 9, 9, "cross-fade", 9, "", "row 2"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image\na.png", Panel("a.png", row="row 2")),
        ("FILE , Camera,motion_bucket\na.png,pan left 0.1,40", Panel("a.png", None, "pan left 0.1", 40, row="row 2")),
        ("picture\tname\na.png\tTitle", Panel("a.png", title="Title", row="row 2")),
        ("image;seconds\na.png;1,5", Panel("a.png", 1.5, row="row 2")),
        ("image,transition_seconds,transition\na.png,0.5,dissolve",
         Panel("a.png", transition="cross-fade", fade=0.5, row="row 2")),
        ("image,transition\na.png,CrossFade 0.25", Panel("a.png", transition="cross-fade", fade=0.25, row="row 2")),
        ("image,transition,fade\na.png,cross-fade 0.25,0.5",
         Panel("a.png", transition="cross-fade", fade=0.5, row="row 2")),
        ("image,transition,fade\na.png,cut,0", Panel("a.png", transition="cut", fade=0.0, row="row 2")),
        ("image,seed\na.png,18446744073709551615", Panel("a.png", seed=2**64 - 1, row="row 2")),
    ],
)  # fmt: skip
def test_a_row_becomes_a_panel(text: str, expected: Panel):
    (found,) = parse_csv(text)
    assert found == expected


def test_json_is_recognised_by_its_first_character():
    for text in ('[{"file": "a.png"}]', ' {"panels": [{"file": "a.png"}]}', "\ufeff image\na.png"[1:]):
        assert [panel.image for panel in parse_text(text)] == ["a.png"]
    assert parse_text(" \n\t") == ()


def test_shared_values_are_overruled_by_own_ones():
    rows = [{"seconds": 1}, {"seconds": "", "seed": 0}, {"move": None}]
    panels = parse_json(json.dumps({"panels": rows, "defaults": {"seconds": 2, "seed": 7}}))
    # An empty value of its own leaves the panel to the film's default.
    assert [(panel.seconds, panel.seed) for panel in panels] == [(1, 7), (None, 0), (2, 7)]
    assert [panel.row for panel in panels] == ["panel 1", "panel 2", "panel 3"]


def test_names_of_pictures_are_sorted_as_people_count(tmp_path: Path):
    names = ["b10.PNG", "b9.png", "B2.jpg", "a.webp", "10.tif", "9.bmp", "c.jpeg", "d.tiff", "e.gif"]
    for name in (*names, "notes.txt", "png"):
        (tmp_path / name).touch()
    board = read_board(tmp_path)
    assert [panel.image for panel in board.panels] == [
        "9.bmp", "10.tif", "a.webp", "B2.jpg", "b9.png", "b10.PNG", "c.jpeg", "d.tiff", "e.gif"
    ]  # fmt: skip
    assert [(panel.title, panel.row) for panel in board.panels[:2]] == [("9", "panel 1"), ("10", "panel 2")]
    assert board.picture_path(board.panels[0]) == tmp_path / "9.bmp" and board.folder == tmp_path


def test_a_missing_picture_is_named_with_its_row(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"row 3: picture .*none.png does not exist; check"):
        Board((), tmp_path).picture_path(Panel("none.png", row="row 3"))
    with pytest.raises(FileNotFoundError, match=r"picture .*does not exist"):
        Board((), tmp_path).picture_path(Panel("", row="row 3"))


LONG = "x" * 5000
DEEP = "[" * 200 + "]" * 200


@pytest.mark.parametrize(
    "text",
    [
        f"image,{LONG}\na.png,1",
        f"image,seconds\na.png,{LONG}",
        f"image,seed\na.png,{'1' * 5000}",
        f"image,transition\na.png,{LONG}",
        f"image,{LONG},{LONG}\na.png,1,2",
        f'[{{"image": {DEEP}}}]',
        f'[{{"{LONG}": 1}}]',
        f'{{"{LONG}": 1}}',
        f'["{LONG}"]',
        f'[{{"{LONG}": 1, "{LONG}": 2}}]',
        "[" * 100000,
        f'[{{"seconds": {"1" * 5000}}}]',
    ],
    ids=range(12),
)
def test_errors_about_long_values_are_short(text: str):
    with pytest.raises(ValueError) as caught:
        parse_text(text)
    assert len(str(caught.value)) < 300 and ";" in str(caught.value)


def test_a_long_name_of_a_picture_is_cut(tmp_path: Path):
    (tmp_path / "board.csv").write_text(f"image\n{'x' * 300}.png")
    board = read_board(tmp_path / "board.csv")
    with pytest.raises(OSError) as caught:
        board.picture_path(board.panels[0])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.png", "'a.png'"),
        ("x" * 80, repr("x" * 80)),
        ("x" * 81, repr("x" * 80 + "...")),
        ("\x1b[31m", r"'\x1b[31m'"),
        ("\ud800", r"'\ud800'"),
        ("\ud800" * 80, "'" + (r"\ud800" * 80)[:80] + "...'"),
        (12, "12"),
        ([1] * 100, repr([1] * 100)[:80] + "..."),
    ],
)
def test_values_are_quoted_escaped_and_cut(value, expected: str):
    assert quoted(value) == expected


@pytest.mark.parametrize(("names", "first"), [("abc", None), ("abcb", "b"), ("aa", "a"), ("abba", "b"), ("", None)])
def test_the_first_repeated_name_is_found(names: str, first):
    assert first_repeated(names) == first


@pytest.mark.parametrize(
    ("text", "heading", "rows"),
    [
        ("", [], []),
        ("\n\n", [], []),
        ("Image,Title", ["image", "title"], []),
        ("a,b\n1,2\n\n3,", ["a", "b"], [("row 2", {"a": "1", "b": "2"}), ("row 4", {"a": "3", "b": ""})]),
        ("a;b;c,d\n1;2", ["a", "b", "c,d"], [("row 2", {"a": "1", "b": "2"})]),
        ("\n;\na;b\n1;2", ["a", "b"], [("row 4", {"a": "1", "b": "2"})]),
        ("a\tb\n1\t2", ["a", "b"], [("row 2", {"a": "1", "b": "2"})]),
        ("a,\n1,", ["a"], [("row 2", {"a": "1"})]),
        ('a\n"1, 2"', ["a"], [("row 2", {"a": "1, 2"})]),
        ("a,b\n1,2,,", ["a", "b"], [("row 2", {"a": "1", "b": "2"})]),
        ("a,b\n1", ["a", "b"], [("row 2", {"a": "1"})]),
    ],
)
def test_tables_are_read_with_the_places_of_their_rows(text: str, heading: list, rows: list):
    assert read_table(text, "the table") == (heading, rows)


def test_the_place_of_a_row_may_name_its_file():
    assert read_table("a\n1", "x.csv", " of x.csv")[1] == [("row 2 of x.csv", {"a": "1"})]
    with pytest.raises(ValueError, match="row 2 of x.csv has 2 values for 1 columns"):
        read_table("a\n1,2", "x.csv", " of x.csv")


def test_json_is_read_and_its_faults_are_of_one_type():
    assert read_json('{"a": [1, {"b": null}]}', "x.json") == {"a": [1, {"b": None}]}
    for text, words in (("{", "not valid JSON"), ('{"a": 1, "a": 2}', "'a' twice"), ("[" * 99999, "nested deeper")):
        with pytest.raises(JSONFault, match=f"^x.json .*{words}.*; "):
            read_json(text, "x.json")


def test_text_is_read_with_or_without_a_mark(tmp_path: Path):
    for name, content in (("plain", "ä"), ("mark", "\ufeffä")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_text(tmp_path / name) == "ä"
    (tmp_path / "latin").write_bytes("ä".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        read_text(tmp_path / "latin")
    with pytest.raises(ValueError, match="is a folder"):
        read_text(tmp_path)


def test_a_film_takes_open_values_from_its_defaults_and_settings(model: SVDModel, caplog):
    settings = AnimateSettings(width=32, height=32, steps=1, fps=10, motion_bucket=80, seed=9)
    panels = [Panel("a"), Panel("b", seconds=2.0, bucket=5, seed=1, transition="cross-fade")]
    film = plan_film(panels, settings, model.config, defaults=Panel(seconds=1.0, move="pan left 0.1"))
    first, second = film.timing.shots
    assert [(shot.panel.bucket, shot.panel.seed, shot.panel.seconds) for shot in film.timing.shots] == [
        (80, 9, 1.0),
        (5, 1, 2.0),
    ]
    assert second.fade == round(FADE * 10) == first.tail == 5 and film.timing.fps == 10
    assert [one.camera.startswith("pan left 0.1") for one in film.settings] == [True, True]
    assert [one.motion_bucket for one in film.settings] == [80, 5] and not caplog.records
    faster = plan_film(panels, settings, model.config, fps=20)
    assert faster.timing.fps == 20 and faster.timing.shots[1].frames == 40
    assert faster.timing.shots[0].frames == model.config.frames, "without seconds the model's own clip"


def test_a_panel_has_its_own_strength_mode_and_bucket(model: SVDModel):
    table = "image,move,camera_strength,mode,bucket\na,pan left 0.1,0.5,dual clock,\nb,pan left 0.1,,,60\nc,,,,\n"
    film = plan_film(parse_text(table), AnimateSettings(width=32, height=32, steps=1, frames=4), model.config)
    found = [(one.camera_strength, one.camera_mode, one.motion_bucket) for one in film.settings]
    assert found == [(0.5, "dual clock", 10), (1.0, "partial re-noise", 60), (1.0, "partial re-noise", 127)]
    assert [shot.panel.bucket for shot in film.timing.shots] == [10, 60, 127]
    shared = AnimateSettings(width=32, height=32, steps=1, camera_strength=2.0, camera_mode="replace estimate")
    (first, *_) = plan_film(parse_text("image,move\na,zoom in 1.1"), shared, model.config).settings
    assert (first.camera_strength, first.camera_mode) == (2.0, "replace estimate")


@pytest.mark.parametrize(
    ("panels", "options", "words"),
    [
        ([Panel("a", mode="magic", row="row 2")], {}, "row 2: the camera mode 'magic' is unknown; use one of partial"),
        ([Panel("a", strength=-1, row="row 3")], {}, "row 3: strength is -1, outside 0 to 10; use about 1"),
        ([], {}, "0 panels; give at least 1"),
        ([Panel("a", bucket=-1, row="row 5")], {}, "row 5: bucket"),
        ([Panel("a")], {"defaults": Panel(fade=-1, row="the options")}, "the options: fade"),
        ([Panel("a", seconds=1, row="row 6")], {"longer": "loop"}, "row 6: longer 'loop'"),
        ([Panel("a")], {"fps": 0}, "fps"),
    ],
)
def test_what_makes_no_film_is_named_with_its_row(model: SVDModel, panels: list, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        plan_film(panels, AnimateSettings(width=32, height=32), model.config, **options)


def test_panels_have_settings_and_steering_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    table = tmp_path / "board.csv"
    table.write_text("image,steps,motion_mask,mask_invert\na.png,3,a.png,yes\na.png,,,\n")
    first, second = read_board(table).panels
    assert first.settings == {"steps": 3}
    assert first.steering == {"motion_mask": str(tmp_path / "a.png"), "mask_invert": True}
    assert second.given == {}
    assert second.filled(first).settings == {"steps": 3}


def test_a_seed_of_a_thousand_digits_is_cut():
    with pytest.raises(ValueError, match=r"seed must be 0 to 2\^64 - 1 \(got 1{80}\.\.\.\)"):
        parse_text("image,seed\na.png," + "1" * 1000)
