"""Files of a batch: damaged clips are made again, a refused batch leaves no files, clips contain their settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.batch import Manifest, ModelSpec, make_clip, plan_jobs, read_rows
from svd_core.checkpoints.load import NANO
from svd_core.cli.main import main
from svd_core.video import read_settings, write_clip

PAN = NANO.parent / "loras" / "nano_pan_left.safetensors"
SETTINGS = {"frames": 3, "steps": 1, "width": 64, "height": 64}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.linear_gradient("L").resize((32, 32)).save(folder / "a.png")
    return folder


def finished(pictures: Path, output: Path, suffix: str):
    """A job whose clip of three frames is finished and listed in the manifest."""
    output.mkdir()
    (job,) = plan_jobs(read_rows(pictures, SETTINGS), ModelSpec("nano"), output, suffix)
    write_clip(torch.rand(3, 8, 8, 3), job.output, fps=7, metadata={"batch_key": job.key})
    Manifest(output).done(job, 1, 0.1)
    return job


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("suffix", "damage", "kept"),
    [
        (".mp4", lambda clip: None, True),
        (".mp4", cut, False),
        (".webp", cut, False),
        (".webp", lambda clip: write_clip(torch.rand(3, 16, 16, 3), clip, fps=7), True),  # whole: an owner's edit
        ("", lambda clip: None, True),
        ("", lambda clip: (clip / "frame_00002.png").unlink(), False),
    ],
)
def test_a_clip_that_is_damaged_is_made_again(pictures, tmp_path, suffix, damage, kept):
    job = finished(pictures, tmp_path / "out", suffix)
    damage(Path(job.output))
    assert Manifest(tmp_path / "out").remaining([job]) == ([] if kept else [job])


def test_a_manifest_without_sizes_is_still_read(pictures, tmp_path):
    job = finished(pictures, tmp_path / "out", ".mp4")
    path = tmp_path / "out" / "manifest.jsonl"
    heading, line = path.read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("size") == Path(job.output).stat().st_size
    path.write_text(f"{heading}\n{json.dumps(entry)}\n")
    assert Manifest(tmp_path / "out").remaining([job]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "in/a.png"), "--output in/a.png is a file; give a folder"),
        (("--output", "warp://bucket/clips"), "warp://bucket/clips cannot be reached"),
        (("--output", "new/out", "--model", "memory://models/none"), "memory://models/none does not exist"),
        (("--output", "in/a.png/more"), "cannot write in/a.png/more"),
        (("--output", "/proc/B"), "cannot write /proc/B"),
        (("--output", "new/out", "--retries", "-1"), "--retries must be 0 or more (got -1)"),
        (("--output", "new/out", "--set", "frames=0"), "frames must be 1 to 100000 (got 0)"),
        (("--output", "new/out", "--set", "seed=1", "--set", "seed=2"), "--set seed is given twice"),
        (("--output", "new/out", "--quality", "101"), "quality 101 is outside 0 to 100"),
        (("--output", "new/out", "--lora", "absent.safetensors"), "absent.safetensors"),
    ],
)
def test_a_refused_batch_is_told_in_a_sentence_and_leaves_nothing(
    pictures, tmp_path, monkeypatch, options, words, capsys
):
    if "/proc" in words and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    monkeypatch.chdir(tmp_path)
    assert main(["batch", "in", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) == 1 and "Errno" not in said
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["in", "in/a.png"]


def test_clips_say_the_version_and_the_loras_but_another_version_makes_none_again(pictures, tmp_path, monkeypatch):
    spec = replace(ModelSpec("nano"), loras=(f"{PAN}:0.5",))
    (job,) = plan_jobs(read_rows(pictures, SETTINGS), spec, tmp_path, ".webp")
    make_clip(spec.load(), job, spec.path)
    told = read_settings(job.output)
    assert (told["version"], told["lora"], told["steps"]) == (svd.__version__, [f"{PAN}:0.5"], 1)
    monkeypatch.setattr("svd_core.batch.jobs.__version__", "99")
    assert [one.key for one in plan_jobs(read_rows(pictures, SETTINGS), spec, tmp_path, ".webp")] == [job.key]
