"""The command `orbit`: clip, mask and table of angles, and what is refused before a model is loaded."""

import re

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from svd_core.cli.main import main
from svd_core.video import read_clip
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbit")
    golden = read_golden(DATA / "family" / "sv3d_p_tiny.safetensors")
    metadata = {"svd.head_channels": "16", "svd.clip_head_channels": "16", "svd.variant": "sv3d_p"}
    metadata |= {"svd.frames": "5", "svd.width": "64", "svd.height": "64"}
    save_file(fill_by_rule(golden.shapes, 43), folder / "sv3d_p.safetensors", metadata)
    pixels = np.full((60, 50, 4), 255, np.uint8)
    pixels[..., 3] = 0
    pixels[10:50, 15:35] = (40, 90, 200, 255)
    Image.fromarray(pixels).save(folder / "thing.png")
    return folder


def run(files, *more, picture="thing.png"):
    model = str(files / "sv3d_p.safetensors")
    return main(["orbit", str(files / picture), "--model", model, "--steps", "2", "--quiet", *more])


def test_an_orbit_is_written_with_its_mask_and_angles(files, capsys):
    out, mask, table = files / "orbit", files / "mask", files / "angles.csv"
    assert run(files, "--output", str(out), "--mask", str(mask), "--angles", str(table), "--elevation", "20") == 0
    assert capsys.readouterr().out.split() == [str(out), str(mask), str(table)]
    frames, fps, metadata = read_clip(out)
    assert frames.shape == (5, 64, 64, 3) and fps == 7
    assert metadata["variant"] == "sv3d_p" and metadata["elevation"] == 20 and metadata["seed"] == 23
    assert frames[-1, 32, 32].mul(255).round().tolist() == [40, 90, 200]  # the picture's own view
    assert read_clip(mask)[0].unique().tolist() == [0, 1]
    assert table.read_text().splitlines() == [
        "frame,elevation,azimuth",
        "1,20.000,72.000",
        "2,20.000,144.000",
        "3,20.000,216.000",
        "4,20.000,288.000",
        "5,20.000,0.000",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--elevation", "100"], r"elevation .*100"),
        (["--azimuths", "0,10", "--frames", "5"], r"azimuths must have one value per frame .*2 for 5"),
        (["--azimuths", "0,90,50,100,120"], "goes back from 90 to 50"),
        (["--size", "70"], "multiple of 8"),
        (["--model", "nano"], "nano does not make orbits"),
        (["--object-mask", "missing.png"], "missing.png does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_the_model_is_loaded(files, options, words, capsys, monkeypatch):
    monkeypatch.setattr("svd_core.cli.orbit.load_named_model", lambda *_: pytest.fail("the model was loaded"))
    assert run(files, "--output", str(files / "none.mp4"), *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(words, line), line
    assert not (files / "none.mp4").exists()


def test_animate_names_orbit_for_an_orbital_model(files, capsys):
    given = [str(files / "thing.png"), "--model", str(files / "sv3d_p.safetensors"), "--output", str(files / "n.mp4")]
    assert main(["animate", *given]) == 2
    assert "orbit" in capsys.readouterr().err
