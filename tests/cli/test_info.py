"""`info` of clips: read from the header, whoever made the file, and safe to print."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from svd_core.cli.info import shown
from svd_core.cli.main import main
from svd_core.video import write_clip
from svd_core.video.decoding import EncodedClip
from tests.helpers.videos import DATA


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("long.mp4", "long.mp4: 100 frames of 16x16, 25 per second"),
        ("turned_90.mp4", "6 frames of 32x48, 12 per second"),
        ("wide_pixels.mp4", "6 frames of 96x32, 12 per second"),
        ("alpha_apng.png", "3 frames of 48x32, 12 per second"),
    ],
)
def test_a_clip_is_described_by_its_header(name: str, words: str, capsys, monkeypatch):
    monkeypatch.setattr(EncodedClip, "__len__", lambda clip: pytest.fail("the film was decoded"))
    monkeypatch.setattr(EncodedClip, "_converted", lambda *given: pytest.fail("a frame was converted"))
    assert main(["info", str(DATA / name)]) == 0
    assert words in capsys.readouterr().out


def test_a_folder_of_any_pictures_is_a_clip(tmp_path: Path, capsys, caplog):
    for number in (1, 2, 4):
        Image.new("RGB", (8, 6)).save(tmp_path / f"ComfyUI_{number:05}_.png")
    assert main(["info", str(tmp_path)]) == 0
    assert "3 frames of 8x6\n" in capsys.readouterr().out and "frame 3 is missing" in caplog.text


def test_settings_cannot_control_the_terminal(tmp_path: Path, capsys):
    settings = {
        "image": "\x1b]0;pwned\x07\x1b[2J",
        "a\nb": "x\ny",
        "long": "x" * 5000,
        "name": "naïve",
    }
    path = write_clip(torch.zeros(2, 16, 16, 3), tmp_path / "clip.mp4", fps=7, metadata=settings)
    assert main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(letter.isprintable() for line in lines for letter in line)
    assert r"\x1b]0;pwned" in lines[1] and "naïve" in lines[4] and len(lines[3]) < 530


def test_settings_that_are_no_valid_text_are_left_out(tmp_path: Path, capsys, caplog):
    path = write_clip(torch.zeros(2, 16, 16, 3), tmp_path / "clip.mp4", fps=7, metadata={"half": "\ud800"})
    assert main(["info", str(path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 and "its embedded settings are ignored" in caplog.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain text", "plain text"),
        ("\t\x1b\n", r"\t\x1b\n"),
        ("\u202eabc", r"\u202eabc"),
        ([1, "\x1b"], json.dumps([1, "\x1b"])),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 497 + "..."),
        (None, "null"),
    ],
)
def test_values_are_escaped_and_cut(value, expected: str):
    assert shown(value) == expected
