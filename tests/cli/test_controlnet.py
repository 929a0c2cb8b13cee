"""`animate --controlnet`: the clip of the core, and a sentence for every option that lacks another."""

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.checkpoints.controlnet import save_controlnet
from svd_core.cli.main import main
from svd_core.networks.controlnet import ControlNet
from svd_core.pipelines.steered import open_steering
from svd_core.video import read_clip, read_settings, write_clip

SMALL = ["--model", "nano", "--width", "64", "--height", "64", "--frames", "2", "--steps", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    Image.linear_gradient("L").resize((80, 64)).save(folder / "photo.png")
    write_clip(torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0)), folder / "lines.webp", fps=7)
    torch.manual_seed(0)
    network = ControlNet(svd.load_model("nano").config.unet)
    for layer in (*network.zero_convs, network.middle_conv):
        torch.nn.init.normal_(layer.weight, std=0.05)
    save_controlnet(network, folder / "net.safetensors", dtype=torch.float16)
    return folder


def run(folder, name, *more):
    output = folder / name
    code = main(["animate", str(folder / "photo.png"), *SMALL, "--output", str(output), "--quiet", *more])
    return code, output


def test_a_clip_follows_its_control_and_names_it(folder):
    given = ["--controlnet", str(folder / "net.safetensors"), "--controlnet-images", str(folder / "lines.webp")]
    code, plain = run(folder, "plain.webp")
    assert code == 0
    code, steered = run(folder, "steered.webp", *given, "--controlnet-strength", "0.5,1", "--controlnet-end", "0.8")
    assert code == 0
    assert not torch.equal(read_clip(plain)[0], read_clip(steered)[0])
    notes = read_settings(steered)
    assert notes["controlnet"] == "net.safetensors" and notes["controlnet_strength"] == "0.5,1"
    code, off = run(folder, "off.webp", *given, "--controlnet-strength", "0")
    assert code == 0 and torch.equal(read_clip(off)[0], read_clip(plain)[0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--controlnet-images", "lines.webp"], "--controlnet-images FILES has no effect without --controlnet"),
        (["--controlnet", "net.safetensors"], "--controlnet FILE has no effect without --controlnet-images"),
    ],
)
def test_options_that_lack_each_other_are_refused(folder, monkeypatch, capsys, more, words):
    monkeypatch.chdir(folder)
    code, _ = run(folder, "bad.webp", *more)
    assert code != 0 and words in capsys.readouterr().err


def test_control_pictures_come_from_clips_and_files(folder):
    def opened(*names):
        paths = [str(folder / name) for name in names]
        return open_steering({"controlnet_images": paths if len(paths) > 1 else paths[0]}).controlnet_images

    assert opened("lines.webp").shape == (3, 32, 32, 3)
    assert opened("photo.png", "photo.png").shape == (2, 64, 80, 3)
    Image.new("RGB", (16, 16)).save(folder / "other.png")
    with pytest.raises(ValueError, match="several sizes.*16x16, 80x64"):
        opened("photo.png", "other.png")
