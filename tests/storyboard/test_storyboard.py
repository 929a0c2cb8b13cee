"""Storyboards: exact times, the clips that animate makes, one film from nodes and command line, resumed by panel."""

import csv
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from svd_core import AnimateSettings, SVDModel, animate
from svd_core.networks.config import SVDConfig
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.storyboard import Panel, film_frames, plan_timing, read_board
from svd_core.storyboard.clips import DEPTH, ClipStore, StoredClip, make_clip
from svd_core.storyboard.film import fade_share, plan_film
from svd_core.video import read_clip, write_clip
from tests.helpers.layouts import other_layouts
from tests.helpers.nodes_pack import part, run
from tests.helpers.storyboards import SMALL_OPTIONS, TABLE, command, write_folder

pytestmark = pytest.mark.usefixtures("loaded_once")
SMALL = AnimateSettings(width=32, height=32, steps=1, fps=10)


@pytest.fixture(scope="module")
def config(model: SVDModel) -> SVDConfig:
    return model.config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A storyboard of three panels with two pictures."""
    return write_folder(tmp_path)


def given(checkpoint: str) -> tuple:
    """Options of a small film."""
    return ("--model", checkpoint, *SMALL_OPTIONS)


def film_of(frames) -> torch.Tensor:
    return torch.stack(list(frames))


def test_the_film_is_made_of_animates_clips(folder: Path, model: SVDModel, config: SVDConfig):
    board = read_board(folder / "board.csv")
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
def test_panels_of_any_length_are_made(model: SVDModel, config: SVDConfig, longer: str, seconds: float, made: dict):
    film = plan_film([Panel(seconds=seconds, move="zoom in 1.1")], SMALL, config, longer=longer)
    assert {name: getattr(film.settings[0], name) for name in made} == made
    frames = film_of(film_frames(model, lambda number: torch.rand(1, 40, 40, 3), film))
    assert len(frames) == round(seconds * 10)
    if longer == "slower":
        assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[-1])


def test_padded_pictures_lie_between_black_borders(model: SVDModel, config: SVDConfig):
    settings = AnimateSettings(width=64, height=32, steps=1, fps=10, fit="pad")
    film = plan_film([Panel(seconds=0.2)], settings, config)
    frames = film_of(film_frames(model, lambda number: torch.rand(1, 40, 40, 3), film))
    assert frames.shape == (2, 32, 64, 3) and not frames[:, :, :16].any() and not frames[:, :, -16:].any()
    assert frames[:, :, 16:48].any()


def test_node_and_command_line_make_the_same_film_bit_for_bit(folder: Path, checkpoint: str, monkeypatch, capsys):
    streamed, write = [], write_clip

    def spy(frames, *rest, **options):
        def each():
            for frame in frames:
                streamed.append(frame.clone())
                yield frame

        return write(each(), *rest, **options)

    monkeypatch.setattr("svd_core.cli.storyboard.write_clip", spy)
    outputs = ("--output", folder / "film", "--sheet", folder / "sheet.png", "--timing", folder / "timing.csv")
    assert command(folder / "board.csv", *given(checkpoint), *outputs, "--quiet") == 0
    printed = capsys.readouterr()
    host = part("nodes.host.comfy")
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

    made, there = "made", "already finished"
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
    make, calls = make_clip, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr("svd_core.storyboard.film.make_clip", stopping)
    output = ("--output", folder / "film.mp4", "--sheet", folder / "sheet.png")
    assert command(folder / "board.csv", *given(checkpoint), *output) == 130
    left = {path.name for path in folder.iterdir()} - {"a.png", "b.png", "board.csv"}
    assert left == {"film.mp4.panels"} and len(list((folder / "film.mp4.panels").glob("clip_*"))) == 2
    capsys.readouterr()
    assert command(folder / "board.csv", *given(checkpoint), *output) == 0
    assert "3 panels, 1 to make" in capsys.readouterr().err and len(calls) == 4


def test_four_photographs_become_one_film_of_the_embedded_model(tmp_path: Path, capsys):
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    names = (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "coffee.png",
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
    assert (len(frames), fps, len(metadata["panels"])) == (22, 7, 4), "4 panels of 0.8 s at 7 fps"
    assert "4 panels, 22 frames, 3.143 s at 7 fps" in capsys.readouterr().out
    # Every panel shows its picture: in the middle of it nothing of its neighbours is left.
    rows = list(csv.DictReader((tmp_path / "timing.csv").read_text().splitlines()))
    last = torch.stack([frames[int(row["last_frame"])] for row in rows]).movedim(-1, 1)
    fitted = [fit(as_batch(open_picture(path)), 64, 64)[0] for path in sorted(board.iterdir())]
    looks, shown = (F.avg_pool2d(part, 8).flatten(1) for part in ((torch.cat(fitted) + 1) / 2, last))
    assert torch.cdist(shown, looks).argmin(1).tolist() == list(range(4))


def test_a_clip_is_contiguous_however_its_frames_lie_in_memory(monkeypatch):
    frames = torch.rand(4, 32, 32, 3)
    shot = plan_timing([Panel(seconds=0.6)], Fraction(10), 4).shots[0]
    clips = []
    for view in (frames, *other_layouts(frames).values()):
        monkeypatch.setattr("svd_core.storyboard.clips.steered_clip", lambda *given, view=view, **options: view)
        clips.append(make_clip(None, None, shot, SMALL))
    assert all(torch.equal(clip, clips[0]) and clip.is_contiguous() for clip in clips)


def test_stored_clips_come_back_bit_for_bit_one_frame_at_a_time(tmp_path: Path):
    clip = (torch.rand(5, 8, 12, 3) * DEPTH).round() / DEPTH
    stored = ClipStore(tmp_path / "kept").frames("abc", lambda: clip)
    assert isinstance(stored, StoredClip) and len(stored) == 5
    assert all(torch.equal(stored[index], clip[index]) for index in range(5))
