"""The command that compares the clips of two checkouts."""

import re

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tools.same_clips import ANIMATE, COMMANDS, commands, compare, difference, prepare, read

FRAMES = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 2, 2, 3)


@pytest.mark.parametrize(
    ("before", "after", "distance", "note"),
    [
        (FRAMES, FRAMES.copy(), 0.0, ""),
        (FRAMES, FRAMES + np.float32(0.25) * (FRAMES > 0.9), 0.25, r"0\.25 in 12\.5"),
        (np.uint8([[250]]), np.uint8([[1]]), 249.0, "249"),  # no wrap at 256
        (FRAMES, FRAMES[:1], np.inf, r"\[2, 2, 2, 3\].*\[1, 2, 2, 3\]"),
        (FRAMES, np.array("text"), np.inf, "became"),
        (np.array("a\nb"), np.array("a\nb"), 0.0, ""),
        (np.array("a\nb"), np.array("a\nc"), np.inf, r"- b.*\+ c"),
    ],
)
def test_differences_have_their_size(before, after, distance, note):
    found, words = difference(before, after)
    assert found == pytest.approx(distance)
    assert bool(words) == bool(note) and re.search(note, words)


def test_results_are_compared_by_name(tmp_path):
    np.savez(tmp_path / "old.npz", error=np.array(""), same=FRAMES, gone=FRAMES)
    np.savez(tmp_path / "new.npz", error=np.array("exit code 2"), same=FRAMES)
    largest, notes = compare(tmp_path / "old.npz", tmp_path / "new.npz")
    assert largest == np.inf and "gone: only in old" in notes and "+ exit code 2" in notes and "same" not in notes
    assert compare(tmp_path / "new.npz", tmp_path / "new.npz") == (0.0, "")


def test_cases_bring_the_clips_that_they_read():
    assert list(commands([])) == [*ANIMATE, *COMMANDS]
    chosen = commands(["finish", "report on a camera move"])
    assert {"plain", "mp4", "camera", "finish", "report on a camera move"} <= set(chosen)
    with pytest.raises(SystemExit, match="no case finnish; the cases are plain"):
        commands(["finnish"])


def test_files_are_read_as_players_show_them(tmp_path):
    prepare(tmp_path)
    assert {"a.png", "b.png", "c.png", "mask.png", "depth.png", "rows.csv", "board.csv", "lora.safetensors"} <= {
        path.name for path in tmp_path.iterdir()
    }
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "two.gif", save_all=True, append_images=pictures[1:])
    ((_, frames),) = read(tmp_path / "two.gif")
    assert frames.shape == (2, 4, 4, 4) and tuple(frames[1, 0, 0]) == (0, 0, 255, 255)
    save_file({"weight": FRAMES}, tmp_path / "weights.safetensors")
    ((name, weight),) = read(tmp_path / "weights.safetensors")
    assert name == "weight" and np.array_equal(weight, FRAMES)
    ((_, text),) = read(tmp_path / "rows.csv")
    assert str(text).startswith("image,name")
