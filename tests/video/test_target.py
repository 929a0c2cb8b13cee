"""Names of clips: what FFmpeg or Windows would misread, and names that are too long, never lose a clip."""

from pathlib import Path

import pytest
import torch

from svd_core.finish import FilmOptions, check_film, write_film
from svd_core.video import check_output, read_clip, write_clip
from svd_core.video.media import open_input
from svd_core.video.target import check_name

FRAMES = torch.full((2, 16, 16, 3), 0.5)
STRANGE = [
    "12:30",
    "http:",
    "file:",
    "pipe:1",
    "a%03d",
    "a'b\"c",
    "[x]*?",
    "-",
    "~",
    "ü \u65e5\u672c",
    "concat:a|b",
    "C:",
    "a\nb",
]


@pytest.mark.parametrize("stem", STRANGE)
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp", ""])
def test_strange_names_are_written_and_read(tmp_path: Path, monkeypatch, stem: str, suffix: str):
    monkeypatch.chdir(tmp_path)
    for name in (f"{stem}{suffix}", tmp_path / f"other{stem}{suffix}"):
        path = write_clip(FRAMES, name, fps=7)
        assert path == Path(name) and read_clip(name)[0].shape == FRAMES.shape
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([f"{stem}{suffix}", f"other{stem}{suffix}"])


@pytest.mark.parametrize("stem", STRANGE)
def test_strange_names_of_films_are_written(tmp_path: Path, monkeypatch, stem: str):
    monkeypatch.chdir(tmp_path)
    write_film(iter(FRAMES), f"{stem}.mp4", FilmOptions(7))
    assert read_clip(f"{stem}.mp4")[0].shape == FRAMES.shape and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp", ""])
def test_names_of_up_to_255_bytes_are_written_and_longer_ones_refused_before_the_work(tmp_path: Path, suffix: str):
    longest = tmp_path / ("ü" * 120 + "x" * (15 - len(suffix)) + suffix)
    assert len(longest.name.encode()) == 255
    assert read_clip(write_clip(FRAMES, longest, fps=7))[0].shape == FRAMES.shape
    with pytest.raises(OSError, match="cannot write .*shorter name"):
        check_output(longest.with_name("x" + longest.name))
    assert list(tmp_path.iterdir()) == [longest]


def test_films_with_too_long_names_are_refused_before_the_work(tmp_path: Path):
    with pytest.raises(OSError, match="shorter name"):
        check_film(tmp_path / ("x" * 252 + ".mp4"), FilmOptions(7))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("12:30.mp4", "the character ':'"),
        ("a<b.mp4", "the character '<'"),
        ('a"b.mp4', "the character '\"'"),
        ("a|b?.mp4", r"the character '\?'"),
        ("a\tb.mp4", r"the character '\\t'"),
        ("clip.", "this name"),
        ("clip ", "this name"),
        ("NUL.mp4", "this name"),
        ("com1", "this name"),
    ],
)
def test_names_that_windows_does_not_allow_are_refused_there(tmp_path: Path, name: str, words: str):
    with pytest.raises(ValueError, match=f"cannot be a file name: Windows does not allow {words}; choose another name"):
        check_name(tmp_path / name, windows=True)
    check_name(tmp_path / name, windows=False)


@pytest.mark.parametrize("name", ["clip.mp4", "com0.mp4", "console.mp4", "com10", "ü \u65e5\u672c.webm", ".hidden"])
def test_usual_names_are_allowed_on_windows(tmp_path: Path, name: str):
    check_name(tmp_path / name, windows=True)


def test_a_null_character_is_refused(tmp_path: Path):
    with pytest.raises(OSError, match="cannot write"):
        check_name(tmp_path / "a\0b.mp4", windows=False)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
    ],
    ids=["HLS", "concat"],
)
def test_a_playlist_in_the_place_of_a_video_opens_no_other_file(tmp_path: Path, text: str):
    write_clip(FRAMES, tmp_path / "clip.mp4", fps=7)
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        read_clip(tmp_path / "list.mp4")
    with open_input(tmp_path / "clip.mp4") as container:
        assert container.streams.video
