"""Files of a storyboard: none overwrites another, clips are kept by their settings, the film contains all settings."""

import shutil
from pathlib import Path

import pytest

from svd_core import __version__
from svd_core.checkpoints.load import NANO
from svd_core.video import read_settings
from tests.helpers.storyboards import SMALL_OPTIONS, command, write_folder

PAN = NANO.parent / "loras" / "nano_pan_left.safetensors"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A storyboard of three panels with two pictures, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path)


def test_a_changed_lora_or_strength_makes_the_panels_again(folder: Path, capsys):
    (folder / "one.csv").write_text("image,seconds\na.png,0.2\n")
    look = shutil.copy(PAN, folder / "look.safetensors")

    def film(*more: object) -> tuple[str, bytes]:
        assert command("one.csv", "--model", "nano", *SMALL_OPTIONS, "--output", "film.webp", *more) == 0
        said = capsys.readouterr().err
        lines = [line.split(": ")[1] for line in said.splitlines() if line.startswith("panel ")]
        return lines[0], (folder / "film.webp").read_bytes()

    plain, there = film(), film()
    assert (plain[0], there) == ("made", ("already finished", plain[1]))
    looks = [film("--lora", text) for text in (look, f"{look}:5", f"{look}:5:0")]
    assert [said for said, _ in looks] == ["made"] * 3
    assert len({plain[1], *(made for _, made in looks)}) == 4
    assert film("--lora", f"{look}:5:0") == ("already finished", looks[-1][1])
    other = shutil.copy(look, folder / "other.safetensors")
    assert film("--lora", f"{other}:5:0")[0] == "already finished", "the content counts, not the name"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--timing", "board.csv"), "--timing board.csv would overwrite the file that the storyboard reads"),
        (("--sheet", "a.png"), "--sheet a.png would overwrite the file that row 3 reads"),
        (("--sheet", "q.png", "--timing", "q.png"), "--timing q.png would overwrite --sheet"),
        (("--timing", "film.mp4"), "--timing film.mp4 would overwrite --output"),
        (("--panels", "film.mp4"), "--panels film.mp4 would overwrite --output"),
        (("--panels", "q.png", "--sheet", "q.png"), "--sheet q.png would overwrite --panels"),
        (("--timing", "some"), "--timing some is a folder"),
        (("--timing", "/proc/t.csv"), "cannot write /proc/t.csv"),
        (("--panels", "/proc/kept"), "cannot write /proc/kept"),
        (("--panels", "a.png"), "--panels a.png is a file; give a folder"),
        (
            ("--lora", "x.safetensors", "--timing", "x.safetensors"),
            "would overwrite the file that --lora x.safetensors",
        ),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_any_panel(folder: Path, options: tuple, words: str, capsys):
    if "/proc" in words and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    (folder / "some").mkdir()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert command("board.csv", *SMALL_OPTIONS, "--output", "film.mp4", *options) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert {path.name for path in folder.iterdir()} == {"a.png", "b.png", "board.csv", "some"}


@pytest.mark.usefixtures("loaded_once")
def test_the_film_says_what_makes_it_again(folder: Path, checkpoint: str):
    options = ("--longer", "slower", "--augmentation", 0.1, "--fit", "pad", "--film-fps", 5)
    given = ("--model", checkpoint, *SMALL_OPTIONS, *options, "--quiet")
    for _ in range(2):  # a folder of frames and one of kept clips may be there already
        assert command("board.csv", *given, "--output", "film") == 0
    told = read_settings("film")
    expected = {"width": 32, "height": 32, "steps": 1, "fps": 10.0, "film_fps": 5.0, "longer": "slower"}
    expected |= {"augmentation": 0.1, "fit": "pad", "version": __version__}
    assert {name: told.get(name) for name in expected} == expected
    assert [panel["seed"] for panel in told["panels"]] == [5, 23, 23] and "lora" not in told
