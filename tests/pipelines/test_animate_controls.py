"""The camera in `animate` and on the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core import AnimateSettings, animate, load_model
from svd_core.cli.main import main
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import warp
from svd_core.controls.signal import SIGNAL_MODES
from svd_core.pictures import as_batch, fit
from svd_core.sampling.controls import Control
from svd_core.video import read_clip
from tests.helpers.checkpoint_files import TINY, tiny_tensors

FAST = AnimateSettings(steps=3, max_guidance=2.0, seed=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A checkpoint with random weights: 4 frames of 64x64."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(dict(tiny_tensors()), path, metadata=TINY)
    return str(path)


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def picture():
    """A picture [1, 48, 80, 3] with something to see in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]


@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_a_camera_without_strength_leaves_the_clip_bit_equal(model, picture, mode):
    plain = animate(model, picture, FAST)
    off = replace(FAST, camera="pan right 0.2", camera_mode=mode, camera_strength=0.0)
    assert torch.equal(animate(model, picture, off), plain)
    assert not torch.equal(animate(model, picture, replace(off, camera_strength=1.0)), plain)


def test_a_strict_camera_shows_the_warped_picture(model, picture):
    settings = replace(FAST, camera="zoom in 1.4", camera_mode="replace estimate", camera_strength=3.0)
    clip = animate(model, picture, settings)
    fitted, _ = fit(as_batch(picture), 64, 64, "crop")
    frames = warp(fitted, parse_path("zoom in 1.4").poses(4)).frames
    scaled = torch.cat([model.encode_latent(frame) for frame in frames.split(1)]) * 0.18215
    wanted = (model.decode(scaled) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(clip, wanted, atol=5e-3, rtol=0)


def test_clips_of_a_batch_have_cameras_of_their_own(model, picture):
    settings = replace(FAST, camera="truck right 0.2", camera_strength=2.0)
    ramp = torch.linspace(0, 1, 48)[:, None].expand(48, 80)
    depth = torch.stack([ramp, 1 - ramp])
    both = animate(model, torch.cat([picture, picture.flip(2)]), settings, depth=depth)
    second = animate(model, picture.flip(2), replace(settings, seed=6), depth=depth[1])
    torch.testing.assert_close(both[4:], second, atol=1e-3, rtol=0)
    other = animate(model, picture.flip(2), replace(settings, seed=6), depth=1 - depth[1])
    assert not torch.allclose(second, other, atol=1e-3)


def test_controls_of_ones_own_come_after_the_camera(model, picture):
    starts = []

    class Watching(Control):
        def begin(self, run, start):
            starts.append(start.sigmas[0])
            return start

    animate(model, picture, replace(FAST, camera="pan right 0.2"), controls=[Watching()])
    animate(model, picture, FAST, controls=[Watching()])
    assert starts == [pytest.approx(30 * 8 / 96), 700.0]


BAD = [
    ({"camera": "spin"}, "camera move 'spin' is unknown"),
    ({"camera": "hold 9 then pan left"}, "still for 9 frames of"),
    ({"camera_mode": "magic"}, "camera_mode 'magic' is unknown; use one of partial re-noise"),
    ({"camera_strength": -1.0}, "camera_strength must be 0 or more (got -1)"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[b[1][:24] for b in BAD])
def test_bad_settings_are_found_before_anything_is_computed(model, picture, given, message):
    with pytest.raises(ValueError) as caught:
        replace(FAST, **given).resolve(model.config)
    assert message in str(caught.value) and "; " in str(caught.value)


@pytest.fixture
def files(tmp_path: Path, picture) -> dict[str, str]:
    """A picture, a depth picture and a mask, as files."""
    images = {
        "photo": Image.fromarray((picture[0] * 255).byte().numpy()),
        "depth": Image.linear_gradient("L").resize((40, 24)),
        "object": Image.new("L", (80, 48), 0),
    }
    images["object"].paste(255, (30, 10, 50, 40))
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
    return {name: str(tmp_path / f"{name}.png") for name in images}


def run(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        return stop.code


def test_the_command_line_takes_a_path_in_words_and_notes_it_in_the_clip(checkpoint, model, files, picture, tmp_path):
    output, text = tmp_path / "frames", "truck right 0.2, zoom in 1.2"
    given = ["--steps", 2, "--seed", 5, "--camera", text, "--camera-mode", "dual clock", "--camera-strength", 1.5]
    given += ["--depth", files["depth"], "--foreground", files["object"], "--device", "cpu", "--quiet"]
    assert run("animate", files["photo"], "--model", checkpoint, "--output", output, *given) == 0
    frames, _, metadata = read_clip(output)
    assert (metadata["camera"], metadata["camera_mode"], metadata["camera_strength"]) == (text, "dual clock", 1.5)
    settings = AnimateSettings(steps=2, seed=5, camera=text, camera_mode="dual clock", camera_strength=1.5)
    maps = {
        name: torch.from_numpy(np.array(Image.open(files[file]))).float() / 255
        for name, file in (("depth", "depth"), ("foreground", "object"))
    }
    expected = animate(model, (picture * 255).byte() / 255, settings, **maps)
    torch.testing.assert_close(frames, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--camera", "spin 3"], "camera move 'spin' is unknown; use one of pan"),
        (["--camera", "pan right", "--depth", "absent.png"], "absent.png"),
        (["--camera", "pan right", "--camera-mode", "magic"], "invalid choice"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_2(checkpoint, files, tmp_path, given, words, capsys):
    assert run("animate", files["photo"], "--model", checkpoint, "--output", tmp_path / "a.gif", *given) == 2
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told
    assert not list(tmp_path.glob("*.gif"))
