"""Camera weights, characters and video depth on the command line, with tiny random networks."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core.cli.main import main
from svd_core.video import read_clip, write_clip
from tests.helpers.checkpoint_files import TINY, tiny_tensors
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule

QUICK = ["--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny model, adapters that fit it, a picture, a clip and a file of poses."""
    path = tmp_path_factory.mktemp("commands")
    save_file(dict(tiny_tensors()), path / "tiny.safetensors", metadata=TINY)
    for name, kind, part in (("motionctrl", "motionctrl", "time_stack"), ("poses", "mimic", "pose_net")):
        shapes = read_golden(DATA / "family" / f"{kind}_tiny.safetensors").shapes
        save_file(fill_by_rule({k: v for k, v in shapes.items() if part in k}, 3), path / f"{name}.safetensors")
    source = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 255, (64, 64, 3), generator=source, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path / "picture.png")
    write_clip(torch.rand(4, 64, 64, 3, generator=source), path / "drawings", fps=8)
    rows = [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, -0.2 * frame] for frame in range(6)]
    (path / "poses.json").write_text(str(rows), encoding="utf-8")
    return path


def animate(folder: Path, output: str, *more: str) -> int:
    words = ["animate", str(folder / "picture.png"), "--model", str(folder / "tiny.safetensors"), "--steps", "2"]
    return main([*words, "--output", str(folder / output), *QUICK, *more])


def frames_of(folder: Path, name: str) -> torch.Tensor:
    return read_clip(folder / name)[0]


def test_animate_follows_camera_weights_by_path_and_by_file(folder):
    weights = ["--camera-weights", str(folder / "motionctrl.safetensors")]
    assert animate(folder, "plain") == 0
    assert animate(folder, "path", *weights, "--camera", "dolly in 0.2") == 0
    assert animate(folder, "file", *weights, "--camera-poses", str(folder / "poses.json"), "--camera-speed", "2") == 0
    assert animate(folder, "off", *weights, "--camera", "dolly in 0.2", "--camera-strength", "0") == 0
    plain = frames_of(folder, "plain")
    assert torch.equal(frames_of(folder, "off"), plain)
    for name in ("path", "file"):
        assert not torch.equal(frames_of(folder, name), plain)
    settings = read_clip(folder / "file")[2]
    assert settings["camera_weights"] == "motionctrl.safetensors" and settings["camera_speed"] == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--camera-poses", "poses.json"], "--camera-poses FILE has no effect without --camera-weights"),
        (["--camera-strength", "1"], "--camera-strength has no effect without --camera"),
        (["--camera-weights", "motionctrl.safetensors"], "has no effect without --camera PATH or --camera-poses FILE"),
        (["--camera-weights", "motionctrl.safetensors", "--camera", "dolly in", "--loop"], "cannot be combined"),
        (["--camera-weights", "poses.safetensors", "--camera", "dolly in"], "is a MimicMotion pose network, for"),
        (["--camera-weights", "motionctrl.safetensors", "--camera", "zoom in"], "does not support zoom; use dolly"),
    ],
)
def test_camera_weights_that_cannot_work_are_refused(folder, monkeypatch, capsys, more, words):
    monkeypatch.chdir(folder)
    assert animate(folder, "refused", *more) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "refused").exists()


def character(folder: Path, output: str, *more: str) -> int:
    words = ["character", str(folder / "picture.png"), "--poses", str(folder / "drawings")]
    words += ["--pose-network", str(folder / "poses.safetensors"), "--model", str(folder / "tiny.safetensors")]
    words += ["--width", "64", "--height", "64", "--steps", "2", "--window", "3", "--overlap", "1"]
    return main([*words, "--output", str(folder / output), *QUICK, *more])


def test_a_character_follows_its_poses_and_loses_its_first_frame(folder):
    assert character(folder, "dance") == 0
    assert character(folder, "whole", "--keep-first") == 0
    dance, whole = frames_of(folder, "dance"), frames_of(folder, "whole")
    assert len(dance) == 3 and torch.equal(whole[1:], dance)
    assert character(folder, "loose", "--strength", "0") == 0
    assert not torch.equal(frames_of(folder, "loose"), dance)


def depth(folder: Path, *more: str) -> int:
    words = ["depth", str(folder / "drawings"), "--model", str(folder / "tiny.safetensors"), "--window", "3"]
    return main([*words, "--output", str(folder / "maps"), "--device", "cpu", *more])


def test_depth_of_a_clip_names_its_licence(folder, capsys):
    assert depth(folder, "--kind", "depthcrafter", "--steps", "1", "--overlap", "1") == 0
    assert "academic, research and education" in capsys.readouterr().err
    maps, fps, settings = read_clip(folder / "maps")
    assert maps.shape == (4, 64, 64, 3) and fps == 8 and settings["kind"] == "depthcrafter"
    assert maps.min() == 0 and maps.max() == 1


def test_a_model_that_makes_clips_reads_no_video(folder, capsys):
    assert depth(folder) == 2
    assert "reads no video; load DepthCrafter or NormalCrafter" in capsys.readouterr().err
