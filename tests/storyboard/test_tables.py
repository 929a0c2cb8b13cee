"""Storyboard files: tables, times, and one sentence for every error."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from svd_core import AnimateSettings, SVDModel
from svd_core.storyboard import Panel, draw_contact_sheet, plan_timing, read_board
from svd_core.storyboard.film import plan_film
from svd_core.storyboard.panels import parse_text
from tests.helpers.nodes_pack import part, run
from tests.helpers.storyboards import SMALL_OPTIONS, command, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A storyboard of three panels with two pictures."""
    return write_folder(tmp_path)


def test_csv_and_json_say_the_same_panels(folder: Path):
    panels = read_board(folder / "board.csv").panels
    assert [panel.seconds for panel in panels] == [0.4, 0.3, 0.7]
    assert (panels[0].move, panels[0].bucket, panels[0].seed, panels[0].title) == ("zoom in 1.1", 40, 5, "Opening")
    assert [(panel.transition, panel.fade) for panel in panels] == [
        (None, None),
        ("cross-fade", 0.2),
        ("cross-fade", 0.1),
    ]
    assert panels[2].move == "" and panels[1].move is None and panels[2].title == "End; long"
    entries = [
        {"file": "b.png", "seconds": 0.4, "camera": "zoom in 1.1", "motion_bucket": 40, "seed": 5, "name": "Opening"}
    ]
    (folder / "board.json").write_text(json.dumps({"panels": entries, "defaults": {"seconds": 9}}))
    (panel,) = read_board(folder / "board.json").panels
    assert panel == Panel("b.png", 0.4, "zoom in 1.1", 40, 5, title="Opening", row="panel 1")
    assert [panel.image for panel in read_board(folder).panels] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("fps", "seconds"), [(7, (1.0, 1.0, 1.0)), (24, (1 / 3,) * 9), (Fraction(30000, 1001), (0.51, 2.02, 0.33))]
)
def test_the_film_has_exactly_seconds_times_fps_frames(fps, seconds):
    panels = [Panel(seconds=length, transition="cut", fade=0.0, bucket=1, seed=1) for length in seconds]
    timing = plan_timing(panels, Fraction(fps), clip_frames=14)
    assert timing.frames == round(sum(Fraction(length).limit_denominator(10**5) for length in seconds) * fps)
    assert [shot.start for shot in timing.shots[1:]] == [shot.start + shot.frames for shot in timing.shots[:-1]]
    # No panel is more than half a frame from where its seconds put it, at either end.
    assert all(abs(shot.frames - length * fps) <= 1 for shot, length in zip(timing.shots, seconds, strict=True))


def test_a_cross_fade_takes_no_time_and_the_first_panel_just_begins():
    panels = [Panel(seconds=1, transition="cross-fade", fade=0.5, bucket=1, seed=1) for _ in range(3)]
    timing = plan_timing(panels, Fraction(10), clip_frames=14)
    assert [(shot.start, shot.frames, shot.fade, shot.tail) for shot in timing.shots] == [
        (0, 10, 0, 5), (10, 10, 5, 5), (20, 10, 5, 0)
    ]  # fmt: skip
    usual = plan_timing([Panel(transition="cut", bucket=1, seed=1)], Fraction(7), clip_frames=14)
    assert usual.frames == 14 and usual.seconds(usual.frames) == 2.0


def test_the_contact_sheet_shows_every_panel():
    panels = [Panel(seconds=1, transition="cut", bucket=1, seed=1, title="A very long title " * 9) for _ in range(7)]
    timing = plan_timing(panels, Fraction(5), clip_frames=14)
    shown = [torch.full((20, 30, 3), number / 10) for number in range(7)]
    page = (draw_contact_sheet(timing, shown) * 255).round()
    assert all(bool((page == float(round(255 * number / 10))).all(-1).any()) for number in range(1, 7))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image\nabsent.png", "row 2: picture"),
        ("image,colour\na.png,red", "row 2 has an unknown column 'colour'"),
        ("image,seconds\na.png,1\nb.png,long", "row 3: seconds is 'long', not a number"),
        ("image,seconds\na.png,0", "row 2: seconds is 0"),
        ("image,seconds\na.png,0.04", "less than a frame"),
        ("image,move\na.png,fly up 3", "row 2: the camera move 'fly'"),
        ("image,transition\na.png,\nb.png,wipe", "row 3: the transition 'wipe' is unknown"),
        ("image,seconds,transition\na.png,1,\nb.png,0.3,cross-fade 0.9", "row 3: the cross-fade lasts 0.9 s"),
        ("image,bucket\na.png,-1", "row 2: bucket is -1"),
        ("image,seed\na.png,1.5", "row 2: seed is '1.5', not a whole number"),
        ("image,seconds\na.png,1,2", "row 2 has 3 values for 2 columns"),
        ("seconds\n1", "row 2 has no picture"),
        ("image", "0 panels"),
        ("image\nboard.csv", "row 2: "),
        ("", "0 panels"),
        (" \n,,\n", "0 panels"),
        ("\nimage,seconds\n,\na.png,-1", "row 4: seconds is -1"),
        ("image,seconds,seconds\na.png,1,2", "two columns 'seconds'"),
        ("image,file\na.png,b.png", "row 2 has image twice"),
        ("image,\na.png,red", "row 2 has a value in a column without a name"),
        ('image,title\na.png,"open', "is not a CSV table"),
        ("image,transition,fade\na.png,,\nb.png,cut,0.2", "row 3: fade is 0.2 s, but a cut has no fade"),
        ("image,transition\na.png,cut 0.2", "row 2: fade is 0.2 s, but a cut has no fade"),
    ],
)
def test_bad_tables_are_answered_with_one_sentence(folder: Path, table: str, words: str, capsys):
    (folder / "board.csv").write_text(table)
    assert command(folder / "board.csv", *SMALL_OPTIONS, "--output", folder / "film.mp4") == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out and len(said.err.strip().splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"a.png", "b.png", "board.csv"}


@pytest.mark.parametrize(
    ("board", "options", "words"),
    [
        ("absent.csv", (), "absent.csv does not exist"),
        ("a.png", (), "is not a .json or .csv file"),
        ("empty", (), "holds no pictures"),
        ("board.csv", ("--sheet", "sheet.pdf"), "--sheet must be a picture (got sheet.pdf); end its name in .png"),
        ("board.csv", ("--timing", "absent/t.csv"), "folder absent of --timing does not exist"),
        ("board.csv", ("--move", "fly"), "the camera move 'fly'"),
        ("board.csv", ("--film-fps", 0), "fps"),
        ("board.csv", ("--seconds", "nan"), "the options: seconds is nan"),
        ("board.csv", ("--seconds", -1), "the options: seconds is -1"),
        ("board.csv", ("--lora", "absent.safetensors"), "absent.safetensors"),
    ],
)
def test_bad_calls_are_answered_with_one_sentence(folder: Path, board: str, options: tuple, words: str, capsys):
    (folder / "empty").mkdir()
    assert command(folder / board, "--output", folder / "film.mp4", *options) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{]", "not valid JSON"),
        ('{"rows": []}', "an entry 'rows'"),
        ("{}", "no list of panels"),
        ("[1]", "panel 1 is 1, not an object"),
        ('[{"image": ["a.png"]}]', "panel 1: image is .*; write a text"),
        ('[{"image": "a.png", "seconds": true}]', "panel 1: seconds is True; write a number"),
        ('[{"image": "a.png", "seed": 1, "seed": 2}]', "'seed' twice"),
        ('[{"image": "a.png", "File": "b.png"}]', "panel 1 has image twice"),
        ('{"panels": [{}], "defaults": {"move": "", "camera": ""}}', "the entry defaults has move twice"),
    ],
)
def test_bad_json_is_answered_with_a_sentence(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        parse_text(text)
    assert parse_text("  ") == ()


def test_a_fade_for_all_is_only_for_those_that_cross_fade():
    rows = [{"image": "a.png"}, {"image": "b.png", "transition": "cut"}, {"image": "c.png", "transition": "dissolve"}]
    panels = parse_text(json.dumps({"panels": rows, "defaults": {"file": "z.png", "fade": 0.3}}))
    assert [(panel.image, panel.fade) for panel in panels] == [("a.png", 0.3), ("b.png", None), ("c.png", 0.3)]


def test_a_fade_that_no_transition_uses_is_told(model: SVDModel, caplog):
    panels = parse_text("image,fade\na.png,\nb.png,0.2")
    plan_film(panels, AnimateSettings(), model.config)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "row 3: fade 0.2 s has no effect on a cut"
    ]
    caplog.clear()
    plan_film(panels, AnimateSettings(), model.config, defaults=Panel(transition="cross-fade"))
    assert not caplog.records


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"panels": ""}, "nothing to film"),
        ({"panels": "seconds\n1"}, "takes picture 1, but the batch holds 0"),
        ({"panels": "image\n../secret.png"}, "outside ComfyUI's input"),
    ],
)
def test_the_node_answers_bad_panels_with_a_sentence(folder: Path, values: dict, words: str, monkeypatch):
    monkeypatch.setattr(part("nodes.host.comfy"), "input_folder", lambda: folder / "inputs")
    monkeypatch.setattr(part("nodes.host.paths"), "readable_folders", lambda: [folder / "inputs"])
    (folder / "secret.png").write_bytes((folder / "a.png").read_bytes())
    model = run("SVDReelLoadModel")[0]
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run("SVDReelStoryboard", model=model, **values)
