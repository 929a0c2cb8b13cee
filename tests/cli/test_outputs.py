"""Commands refuse to overwrite their inputs or to write two outputs into one file, before they start working."""

from pathlib import Path

import pytest

from svd_core.cli.outputs import check_outputs


@pytest.mark.parametrize(
    ("outputs", "error", "words"),
    [
        ({"--output": "clip.mp4"}, ValueError, "--output clip.mp4 would overwrite the file that CLIP reads"),
        ({"--output": "../here/clip.mp4"}, ValueError, "would overwrite the file that CLIP reads"),
        ({"--csv": "a.png", "--output": "./a.png"}, ValueError, "--output a.png would overwrite --csv"),
        ({"--json": "folder"}, ValueError, "--json folder is a folder"),
        ({"--json": "absent/a.json"}, FileNotFoundError, "folder absent of --json does not exist"),
        ({"--json": "/proc/a.json"}, OSError, "cannot write /proc/a.json"),
    ],
)
def test_outputs_that_would_cost_something_are_refused(tmp_path, monkeypatch, outputs, error, words):
    if "/proc" in words and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (here / "clip.mp4").write_text("a clip")
    monkeypatch.chdir(here)
    with pytest.raises(error, match=words.replace(".", r"\.")):
        check_outputs(outputs, {"CLIP": "clip.mp4", "--image": None})
    assert (here / "clip.mp4").read_text() == "a clip"


def test_outputs_that_can_be_written_leave_nothing_behind(tmp_path):
    check_outputs({"--json": tmp_path / "a.json", "--page": None}, {"CLIP": tmp_path / "clip.mp4"})
    assert list(Path(tmp_path).iterdir()) == []
