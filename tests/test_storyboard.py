"""Storyboards: exact times, the clips that animate makes, one film from nodes and command line, resumed by panel."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from checkpoint_files import TINY, tiny_tensors
from nodes_pack import part, run
from PIL import Image
from safetensors.torch import save_file

from svd_core import AnimateSettings, __main__, animate, load_model
from svd_core.models.config import SVDConfig
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.storyboard import Panel, draw_contact_sheet, film_frames, plan_timing, read_board
from svd_core.storyboard import command as storyboard_command
from svd_core.storyboard.clips import DEPTH, ClipStore, StoredClip
from svd_core.storyboard.film import fade_share, plan_film
from svd_core.storyboard.panels import parse_text
from svd_core.video import read_clip

SMALL = AnimateSettings(width=32, height=32, steps=1, fps=10)
TABLE = """image;seconds;move;bucket;seed;transition;fade;title
b.png;0.4;zoom in 1.1;40;5;;;Opening
a.png;0,3;;;;cross-fade;0.2;
a.png;0.7;none;200;;Dissolve 0.1;;"End; long"
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with random weights: 4 frames of 64x64."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(dict(tiny_tensors()), path, metadata=TINY)
    return str(path)


@pytest.fixture(scope="module")
def config(checkpoint: str) -> SVDConfig:
    return load_model(checkpoint).config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A storyboard of three panels with two pictures, of different sizes."""
    ramp = Image.linear_gradient("L")
    ramp.resize((60, 40)).save(tmp_path / "a.png")
    Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).resize((30, 50)).save(tmp_path / "b.png")
    (tmp_path / "board.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def command(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return __main__.main([str(argument) for argument in ("storyboard", *arguments)])
    except SystemExit as stop:  # argparse
        return stop.code


def given(checkpoint: str) -> tuple:
    return ("--model", checkpoint, "--device", "cpu", "--width", 32, "--height", 32, "--steps", 1, "--fps", 10)


def film_of(frames) -> torch.Tensor:
    return torch.stack(list(frames))


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


def test_the_film_is_made_of_animates_clips(folder: Path, checkpoint: str, config: SVDConfig):
    board, model = read_board(folder / "board.csv"), load_model(checkpoint)
    pictures = [open_picture(board.picture_path(panel)) for panel in board.panels]
    film = plan_film(board.panels, SMALL, config)
    frames = film_of(film_frames(model, pictures.__getitem__, film))
    assert frames.shape == (14, 32, 32, 3) and [shot.start for shot in film.timing.shots] == [0, 4, 7]
    # The first panel goes on under the fade of the second: 6 frames of a model of 4, in windows.
    first, second, third = film.settings
    assert (first.frames, first.windows, second.frames, third.frames) == (6, 4, 4, 7)
    assert (first.camera, first.motion_bucket, first.seed, second.seed) == ("zoom in 1.1", 40, 5, SMALL.seed)
    clips = [(animate(model, *one) * DEPTH).round() / DEPTH for one in zip(pictures, film.settings, strict=True)]
    assert torch.equal(frames[:4], clips[0][:4]) and torch.equal(frames[6], clips[1][2])
    for index in range(2):
        expected = torch.lerp(clips[0][4 + index], clips[1][index], fade_share(index, 2))
        assert torch.equal(frames[4 + index], expected)
    assert torch.equal(frames[8:], clips[2][1:])


@pytest.mark.parametrize(
    ("longer", "seconds", "made"),
    [
        ("windows", 0.7, {"frames": 7, "windows": 4, "extend": 0}),
        ("extend", 0.7, {"frames": 4, "windows": 0, "extend": 3}),
        ("slower", 0.7, {"frames": 4, "windows": 0, "extend": 0}),
        ("windows", 0.1, {"frames": 4, "windows": 0, "extend": 0, "camera": "zoom in 1.1 then hold 2"}),
        ("windows", 0.3, {"frames": 4, "windows": 0, "extend": 0, "camera": "zoom in 1.1 then hold 1"}),
    ],
)
def test_panels_of_any_length_are_made(checkpoint: str, config: SVDConfig, longer: str, seconds: float, made: dict):
    film = plan_film([Panel(seconds=seconds, move="zoom in 1.1")], SMALL, config, longer=longer)
    assert {name: getattr(film.settings[0], name) for name in made} == made
    frames = film_of(film_frames(load_model(checkpoint), lambda number: torch.rand(1, 40, 40, 3), film))
    assert len(frames) == round(seconds * 10)
    if longer == "slower":
        assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[-1])


def test_padded_pictures_lie_between_black_borders(checkpoint: str, config: SVDConfig):
    settings = AnimateSettings(width=64, height=32, steps=1, fps=10, fit="pad")
    film = plan_film([Panel(seconds=0.2)], settings, config)
    frames = film_of(film_frames(load_model(checkpoint), lambda number: torch.rand(1, 40, 40, 3), film))
    assert frames.shape == (2, 32, 64, 3) and not frames[:, :, :16].any() and not frames[:, :, -16:].any()
    assert frames[:, :, 16:48].any()


def test_node_and_command_line_make_the_same_film_bit_for_bit(folder: Path, checkpoint: str, monkeypatch, capsys):
    streamed, write = [], storyboard_command.write_clip

    def spy(frames, *rest, **options):
        def each():
            for frame in frames:
                streamed.append(frame.clone())
                yield frame

        return write(each(), *rest, **options)

    monkeypatch.setattr(storyboard_command, "write_clip", spy)
    outputs = ("--output", folder / "film", "--sheet", folder / "sheet.png", "--timing", folder / "timing.csv")
    assert command(folder / "board.csv", *given(checkpoint), *outputs, "--quiet") == 0
    printed = capsys.readouterr()
    host = part("nodes.host")
    monkeypatch.setattr(host, "model_files", lambda name: ["tiny.safetensors"])
    monkeypatch.setattr(host, "model_path", lambda *names: checkpoint)
    monkeypatch.setattr(host, "input_folder", lambda: folder)
    model = run("SVDReelLoadModel", model_name="tiny.safetensors")[0]
    size = {"width": 32, "height": 32, "steps": 1, "fps": 10}
    film, sheet, text, fps, table = run("SVDReelStoryboard", model=model, panels=TABLE, **size)
    assert torch.equal(film, torch.stack(streamed)) and fps == 10.0
    assert (folder / "timing.csv").read_text() == table and text in printed.out and not printed.err
    with Image.open(folder / "sheet.png") as page:
        assert page.size == tuple(sheet.shape[2:0:-1])
    # The file holds that film; PNG rounds to 8 bits: half a level.
    torch.testing.assert_close(read_clip(folder / "film")[0], film, atol=0.51 / 255, rtol=0)
    rows = list(csv.DictReader((folder / "timing.csv").read_text().splitlines()))
    assert [row["first_frame"] for row in rows] == ["0", "4", "7"] and rows[1]["transition"] == "cross-fade"
    # The same pictures as a batch, without names.
    batch = torch.cat([torch.rand(1, 20, 20, 3, generator=torch.Generator().manual_seed(1))] * 2)
    plain = run("SVDReelStoryboard", model=model, images=batch, seconds=0.2, **size)
    assert len(plain[0]) == 4 and torch.equal(plain[0][:2], plain[0][2:]), "one seed for all"
    named = run("SVDReelStoryboard", model=model, panels='[{"image": 2, "seconds": 0.2}]', images=batch, **size)
    assert torch.equal(named[0], plain[0][2:])


def test_finished_panels_are_made_again_only_where_something_changed(folder: Path, checkpoint: str, capsys):
    def film(*more: object) -> list[str]:
        assert command(folder / "board.csv", *given(checkpoint), "--output", folder / "film.webp", *more) == 0
        said = capsys.readouterr().err
        return [line.split(": ")[1] for line in said.splitlines() if line.startswith("panel ")]

    made, there = "made", "was there"
    assert film() == [made] * 3
    first = (folder / "film.webp").read_bytes()
    assert film() == [there] * 3 and (folder / "film.webp").read_bytes() == first
    # Another seed in the last row, whose clip alone changes; the old one is removed.
    (folder / "board.csv").write_text(TABLE.replace("200;;", "200;9;"), encoding="utf-8")
    assert film() == [there, there, made]
    kept = folder / "film.webp.panels"
    assert len(list(kept.glob("clip_*.safetensors"))) == 3
    Image.new("RGB", (30, 50), "red").save(folder / "b.png")
    assert film() == [made, there, there]
    # A clip that was cut short is made again.
    next(kept.glob("clip_*.safetensors")).write_bytes(b"short")
    assert sorted(film()) == sorted([made, there, there])
    assert film("--motion-bucket", 60) == [there, made, there], "the other rows say their own"


def test_a_stopped_film_leaves_nothing_but_finished_clips(folder: Path, checkpoint: str, monkeypatch, capsys):
    make, calls = storyboard_command.film_frames.__globals__["make_clip"], []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setitem(storyboard_command.film_frames.__globals__, "make_clip", stopping)
    output = ("--output", folder / "film.mp4", "--sheet", folder / "sheet.png")
    assert command(folder / "board.csv", *given(checkpoint), *output) == 130
    left = {path.name for path in folder.iterdir()} - {"a.png", "b.png", "board.csv"}
    assert left == {"film.mp4.panels"} and len(list((folder / "film.mp4.panels").glob("clip_*"))) == 2
    capsys.readouterr()
    assert command(folder / "board.csv", *given(checkpoint), *output) == 0
    assert "3 panels, 1 to make" in capsys.readouterr().err and len(calls) == 4


def test_eight_photographs_become_one_film_of_the_embedded_model(tmp_path: Path, capsys):
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    names = (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "rocket.jpg",
    )
    if not all((data / name).is_file() for name in names):
        pytest.skip("this scikit-image brings fewer pictures")
    board = tmp_path / "board"
    board.mkdir()
    for number, name in enumerate(names):
        with Image.open(data / name) as photograph:
            photograph.convert("RGB").resize((96, 80)).save(board / f"{number}_{name}")
    outputs = (
        "--output",
        tmp_path / "film.mp4",
        "--sheet",
        tmp_path / "sheet.png",
        "--timing",
        tmp_path / "timing.csv",
    )
    options = (
        "--width",
        64,
        "--height",
        64,
        "--steps",
        2,
        "--seconds",
        0.8,
        "--transition",
        "cross-fade",
        "--fade",
        0.3,
    )
    assert command(board, *outputs, *options, "--move", "zoom in 1.1", "--device", "cpu", "--quiet") == 0
    frames, fps, metadata = read_clip(tmp_path / "film.mp4")
    assert (len(frames), fps, len(metadata["panels"])) == (45, 7, 8), "8 panels of 0.8 s at 7 fps"
    assert "8 panels, 45 frames, 6.429 s at 7 fps" in capsys.readouterr().out
    # Every panel shows its picture: in the middle of it nothing of its neighbours is left.
    rows = list(csv.DictReader((tmp_path / "timing.csv").read_text().splitlines()))
    last = torch.stack([frames[int(row["last_frame"])] for row in rows]).movedim(-1, 1)
    fitted = [fit(as_batch(open_picture(path)), 64, 64)[0] for path in sorted(board.iterdir())]
    looks, shown = (F.avg_pool2d(part, 8).flatten(1) for part in ((torch.cat(fitted) + 1) / 2, last))
    assert torch.cdist(shown, looks).argmin(1).tolist() == list(range(8))


def test_stored_clips_come_back_bit_for_bit_one_frame_at_a_time(tmp_path: Path):
    clip = (torch.rand(5, 8, 12, 3) * DEPTH).round() / DEPTH
    stored = ClipStore(tmp_path / "kept").frames("abc", lambda: clip)
    assert isinstance(stored, StoredClip) and len(stored) == 5
    assert all(torch.equal(stored[index], clip[index]) for index in range(5))


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
        ("image,colour\na.png,red", "row 2 has a column 'colour', which is unknown"),
        ("image,seconds\na.png,1\nb.png,long", "row 3: seconds is 'long', no number"),
        ("image,seconds\na.png,0", "row 2: seconds is 0"),
        ("image,seconds\na.png,0.04", "less than a frame"),
        ("image,move\na.png,fly up 3", "row 2: the camera move 'fly'"),
        ("image,transition\na.png,\nb.png,wipe", "row 3: the transition 'wipe' is unknown"),
        ("image,seconds,transition\na.png,1,\nb.png,0.3,cross-fade 0.9", "row 3: the cross-fade lasts 0.9 s"),
        ("image,bucket\na.png,-1", "row 2: bucket is -1"),
        ("image,seed\na.png,1.5", "row 2: seed is '1.5', no whole number"),
        ("image,seconds\na.png,1,2", "row 2 has 3 values for 2 columns"),
        ("seconds\n1", "row 2 names no picture"),
        ("image", "0 panels"),
        ("image\nboard.csv", "row 2: "),
    ],
)
def test_bad_tables_are_answered_with_one_sentence(folder: Path, table: str, words: str, checkpoint: str, capsys):
    (folder / "board.csv").write_text(table)
    assert command(folder / "board.csv", *given(checkpoint), "--output", folder / "film.mp4") == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out and len(said.err.strip().splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"a.png", "b.png", "board.csv"}


@pytest.mark.parametrize(
    ("board", "options", "words"),
    [
        ("absent.csv", (), "absent.csv does not exist"),
        ("a.png", (), "is no .json or .csv file"),
        ("empty", (), "holds no pictures"),
        ("board.csv", ("--sheet", "sheet.pdf"), "sheet.pdf is no picture"),
        ("board.csv", ("--timing", "absent/t.csv"), "no folder absent"),
        ("board.csv", ("--move", "fly"), "the camera move 'fly'"),
        ("board.csv", ("--film-fps", 0), "fps"),
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
        ("[{]", "is no JSON"),
        ('{"rows": []}', "an entry 'rows'"),
        ("{}", "no list of panels"),
        ("[1]", "panel 1 is 1, no object"),
    ],
)
def test_bad_json_is_answered_with_a_sentence(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        parse_text(text)
    assert parse_text("  ") == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"panels": ""}, "nothing to film"),
        ({"panels": "seconds\n1"}, "takes picture 1, but the batch holds 0"),
        ({"panels": "image\n../secret.png"}, "not in ComfyUI's input folder"),
    ],
)
def test_the_node_answers_bad_panels_with_a_sentence(folder: Path, config, values: dict, words: str, monkeypatch):
    monkeypatch.setattr(part("nodes.host"), "input_folder", lambda: folder / "inputs")
    (folder / "secret.png").write_bytes((folder / "a.png").read_bytes())
    model = type("Model", (), {"config": config})()
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run("SVDReelStoryboard", model=model, **values)
