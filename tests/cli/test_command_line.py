"""The command line: a clip with its settings from a picture, and one sentence with exit code 2 for invalid input."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core import AnimateSettings, animate, load_model
from svd_core.cli.main import main
from svd_core.pictures import open_picture
from svd_core.video import read_clip
from tests.helpers.checkpoint_files import TINY, tiny_tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint with random weights: 4 frames of 64x64."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(dict(tiny_tensors()), path, metadata=TINY)
    return str(path)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A colourful PNG of 60x40 with a transparent corner."""
    image = Image.linear_gradient("L").resize((60, 40)).convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def run(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        return stop.code


def test_animate_writes_the_clip_of_the_python_call(model: str, picture: str, tmp_path: Path, capsys):
    output = tmp_path / "frames"
    given = ("--steps", 2, "--motion-bucket", 80, "--fps", 9, "--augmentation", 0.05, "--min-guidance", 1.2)
    given += ("--max-guidance", 2, "--seed", 5, "--decode", 2, "--fit", "pad", "--background", "#102030")
    given += (
        "--width",
        48,
        "--height",
        32,
        "--frames",
        3,
        "--schedule",
        "exponential",
        "--sigma-max",
        100,
        "--solver",
        "heun",
        "--guidance-shape",
        "triangle",
    )
    assert run("animate", picture, "--model", model, "--output", output, "--device", "cpu", *given) == 0
    settings = AnimateSettings(
        width=48,
        height=32,
        frames=3,
        steps=2,
        motion_bucket=80,
        fps=9,
        augmentation=0.05,
        min_guidance=1.2,
        max_guidance=2,
        seed=5,
        decode=2,
        fit="pad",
        background="#102030",
        schedule="exponential",
        sigma_max=100,
        solver="heun",
        guidance_shape="triangle",
    )
    expected = animate(load_model(model), open_picture(picture), settings)
    frames, fps, metadata = read_clip(output)
    # PNG rounds to 8 bits: half a level.
    torch.testing.assert_close(frames, expected, atol=0.51 / 255, rtol=0)
    assert fps == 9 and (metadata["seed"], metadata["solver"], metadata["image"]) == (5, "heun", "photo.png")
    printed = capsys.readouterr()
    assert printed.out == f"{output}\n"
    assert "sampling: 100% 2/2 [" in printed.err and "decoding: 100% 100/100 [" in printed.err


def test_quiet_prints_the_path_alone(model: str, picture: str, tmp_path: Path, capsys):
    output = tmp_path / "clip.mp4"
    options = ("--steps", 1, "--frames", 2, "--width", 48, "--height", 32, "--playback-fps", 12)
    assert run("animate", picture, "--model", model, "--output", output, "--quiet", *options) == 0
    assert capsys.readouterr() == (f"{output}\n", "")
    frames, fps, metadata = read_clip(output)
    assert frames.shape == (2, 32, 48, 3)
    # Playback is the file's business, the conditioning stays at its default.
    assert fps == 12 and metadata["fps"] == 7


def test_several_pictures_make_several_clips(model: str, picture: str, tmp_path: Path, capsys):
    Image.new("L", (30, 90), 128).save(tmp_path / "tall.png")
    pictures = (picture, tmp_path / "tall.png")
    options = ("--model", model, "--steps", 1, "--frames", 1, "--keep-aspect", "--quiet")
    assert run("animate", *pictures, "--output", tmp_path / "{name}.webp", *options) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "photo.webp"), str(tmp_path / "tall.webp")]
    # About 64 * 64 pixels each, in multiples of 8.
    assert read_clip(tmp_path / "photo.webp")[0].shape == (1, 56, 80, 3)
    assert read_clip(tmp_path / "tall.webp")[0].shape == (1, 112, 40, 3)
    assert run("animate", *pictures, "--output", tmp_path / "clip.webp", *options) == 2
    assert re.search(r"clip.webp.*put \{name\} into --output", capsys.readouterr().err)


def test_longer_clips_are_those_of_the_python_call(model: str, picture: str, tmp_path: Path):
    loaded, options = load_model(model), ("--model", model, "--steps", 2, "--quiet", "--device", "cpu")
    # The tiny model makes 4 frames: two windows of 3 cover 5, and two more extend it.
    given = ("--frames", 5, "--windows", 3, "--window-overlap", 1, "--extend", 2, "--extend-overlap", 2)
    assert run("animate", picture, "--output", tmp_path / "frames", *options, *given) == 0
    settings = AnimateSettings(steps=2, frames=5, windows=3, window_overlap=1, extend=2, extend_overlap=2)
    expected = animate(loaded, open_picture(picture), settings)
    assert expected.shape == (7, 64, 64, 3)
    torch.testing.assert_close(read_clip(tmp_path / "frames")[0], expected, atol=0.51 / 255, rtol=0)
    windowed, plain = (
        animate(loaded, open_picture(picture), AnimateSettings(steps=2, frames=5, windows=windows))
        for windows in (5, 0)
    )
    assert torch.equal(windowed, plain), "one window is the clip itself"
    assert not torch.equal(expected[:5], plain)


BAD = [
    (["--width", "1001", "--height", "64"], "width 1001 is not a multiple of 8; use 1000 or 1008"),
    (["--height", "8"], "height must be 16 to 16384 .got 8."),
    (["--frames", "0"], "frames must be 1 to 100000 .got 0."),
    (["--steps", "0"], "steps"),
    (["--decode", "none"], "decode plan 'none' is unknown"),
    (["--background", "whitish"], "background 'whitish' is not a colour"),
    (["--fit", "zoom"], "invalid choice: 'zoom'"),
    (["--seed", "x"], "invalid int value: 'x'"),
    (["--device", "warp"], "device warp .*use cpu"),
    (["--quality", "200"], "quality 200 is outside 0 to 100"),
    (["--playback-fps", "0"], "fps 0.0 is outside 0.01 to 1000"),
    (["--playback-fps", "-3"], "fps -3.0 is outside 0.01 to 1000"),
    (["--keep-aspect", "--width", "64"], "--keep-aspect chooses width and height itself"),
    (["--output", "clip.avi"], "asks for a .avi file; use .mp4, .webm, .webp, .gif"),
    (["--output", "clip.gif", "--fps", "60"], "fps 60 is beyond gif's 50"),
    (["--output", "absent/clip.mp4"], "folder absent does not exist; create it first"),
    (["--model", "absent.safetensors"], "absent.safetensors"),
    (["--model", "photo.png"], "photo.png"),
    (["--image", "absent.png"], "picture absent.png does not exist"),
    (["--windows", "5"], "windows of at most 4"),
    (["--windows", "3", "--window-overlap", "3"], "can overlap by 0 to 2 .got 3."),
    (["--windows", "-1"], "windows must be 0 or more .got -1."),
    (["--extend", "-2"], "extend must be 0 to 100000 .got -2."),
    (["--extend", "9", "--extend-overlap", "4"], "can overlap by 1 to 3 .got 4."),
    (["--frames", "2", "--extend", "9", "--extend-overlap", "3"], "must be at most the clip's 2 frames .got 3."),
]


BAD += [
    (["--device", "meta"], "device meta .*use cpu"),
    (["--device", "cpu:7"], "device cpu:7 .*use cpu"),
    (["--frames", "9" * 20], "frames must be 1 to 100000 .got 1e.20."),
    (["--width", "9" * 20], "width must be 16 to 16384 .got 1e.20."),
    (["--steps", "1000000"], "steps must be 1 to 10000 .got 1e.06."),
    (["--extend", "9" * 20], "extend must be 0 to 100000 .got 1e.20."),
    (["--max-guidance", "-1"], "max_guidance must be 0 or more .got -1."),
    (["--min-guidance", "-1"], "min_guidance must be 0 or more .got -1."),
    (["--memory", "nan"], "--memory: .* 0.01 to 4096 .got 'nan'.; use 8"),
    (["--complete-from", "absent.safetensors"], "absent.safetensors"),
    (["--attention", "flash", "--device", "cpu"], "--attention .*CUDA.* cpu.; leave it out"),
    (["--fp16-accumulation", "--device", "cpu"], "--fp16-accumulation .*CUDA.* cpu.; leave it out"),
    (["--camera-mode", "dual clock"], "--camera-mode .* without --camera.*leave it out"),
    (["--camera-strength", "2"], "--camera-strength .* without --camera.*leave it out"),
    (["--depth", "photo.png"], "--depth .* without --camera.*leave it out"),
    (["--foreground", "photo.png"], "--foreground .* without --camera.*leave it out"),
    (["--window-overlap", "2"], "--window-overlap .* without --windows.*leave it out"),
    (["--extend-overlap", "-7"], "--extend-overlap .* without --extend.*leave it out"),
    (["--reuse-depth", "1"], "--reuse-depth .* without --reuse.*leave it out"),
    (["--reuse-sigma-low", "1"], "--reuse-sigma-low .* without --reuse.*leave it out"),
    (["--drag-scale", "2"], "--drag-scale .* without --drag PATH.*leave it out"),
    (["--drag-easing", "ease"], "--drag-easing .* without --drag PATH.*leave it out"),
    (["--drag-strength", "nan"], "--drag-strength .* without --drag PATH.*leave it out"),
    (["--motion-mask", "photo.png", "--mask-strength", "-1"], "got -1.; use"),
    (["--motion-mask", "photo.png", "--mask-feather", "99"], "0 to 25 % .got 99."),
    (["--motion-mask", "photo.png", "--still-bucket", "nan"], "still bucket"),
    (["--motion-mask", "photo.png", "--moving-bucket", "-4"], "moving bucket"),
    (["--drag", "0.3,0.5; 0.6,0.5", "--drag-mask", "photo.png", "--drag-strength", "-1"], "got -1.; use"),
    (["--drag", "0.3,0.5; 0.6,0.5", "--drag-mask", "photo.png", "--drag-background", "9"], "between 0 and 1 .got 9."),
]


@pytest.mark.parametrize("options, message", BAD, ids=[" ".join(row[0]) for row in BAD])
def test_bad_input_is_one_sentence_before_any_sampling(
    model: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: list[str], message
):
    def sampled(*_: object, **__: object) -> None:
        raise RuntimeError("the sampler was reached")

    monkeypatch.setattr("svd_core.cli.animate.steered_clip", sampled)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    if options[0] == "--image":
        picture, options = options[1], []
    assert run("animate", picture, "--model", model, "--output", "clip.mp4", *options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.search(message, printed.err)
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "error, code, message",
    [
        (KeyboardInterrupt(), 130, "stopped, no clip was written"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), 1, "out of memory; use a smaller --width"),
        (BrokenPipeError("the pipe to worker 1 broke"), 2, "the pipe to worker 1 broke"),
        (OSError("cannot write clip.mp4 (No space left on device); free space"), 2, "No space left on device"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_sentence_too(
    model: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, error, code: int, message: str
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("svd_core.cli.animate.steered_clip", fail)
    output = tmp_path / "clip.mp4"
    assert run("animate", picture, "--model", model, "--output", output, "--quiet") == code
    assert message in capsys.readouterr().err and not output.exists()


@pytest.mark.parametrize("name", ["frames", "clip.webp"])
def test_info_tells_the_settings_of_every_kind_of_clip(model: str, picture: str, tmp_path: Path, capsys, name: str):
    Image.new("L", (60, 40), 255).save(tmp_path / "mask.png")
    given = ("--motion-mask", tmp_path / "mask.png", "--mask-feather", 3, "--no-keep-still", "--dtype", "float32")
    small = ("--model", model, "--steps", 1, "--frames", 2, "--quiet")
    assert run("animate", picture, *small, *given, "--output", tmp_path / name) == 0
    capsys.readouterr()
    assert run("info", tmp_path / name) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()[1:]]
    told = {line[0]: line[-1] for line in lines}
    assert told["motion_mask"] == "mask.png" and told["mask_feather"] == "3.0" and told["dtype"] == "float32"
    assert told["keep_still"] == "false"


def test_a_decode_in_pieces_larger_than_the_clip_is_the_clip_in_one(model: str, picture: str, tmp_path: Path):
    small = ("--model", model, "--steps", 1, "--frames", 2, "--quiet", "--decode")
    for name, pieces in (("two", 2), ("many", "9" * 20)):
        assert run("animate", picture, *small, pieces, "--output", tmp_path / name) == 0
    assert torch.equal(read_clip(tmp_path / "two")[0], read_clip(tmp_path / "many")[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "0"], "--rate: .*1e-06 to 1e.06 .got '0'.; use 80"),
        (["--rate", "nan"], "--rate: .*got 'nan'.; use 80"),
        (["--rate", "80", "--measure"], "leave one of them out"),
        (["--page", "plan.png"], "add --memory GB"),
        (["--memory", "8", "--page", "plan.txt"], "--page .*plan.txt.; end its name in .png"),
        (["--methods", "--frames", "1"], "--methods .*1 frame.; use --frames 2"),
        (["--memory", "8", "--page", "absent/plan.png"], "does not exist; create it first"),
    ],
)
def test_plans_that_cannot_be_are_refused(tmp_path: Path, monkeypatch, capsys, options: list[str], words: str):
    monkeypatch.chdir(tmp_path)
    assert run("plan", "--model", "svd", *options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.search(words, printed.err) and printed.err.count("\n") == 1


def test_info_tells_of_checkpoints_and_clips(model: str, picture: str, tmp_path: Path, capsys):
    assert run("info", model) == 0
    assert "4 frames of 64 x 64 pixels" in capsys.readouterr().out
    clip = tmp_path / "clip.gif"
    assert run("animate", picture, "--model", model, "--output", clip, "--steps", 1, "--frames", 2, "--quiet") == 0
    assert run("info", clip) == 0
    printed = capsys.readouterr().out
    assert "2 frames of 64x64, 7 per second" in printed and "tiny.safetensors" in printed
    assert json.dumps(0.02) in printed
    assert run("info", tmp_path / "absent.safetensors") == 2
    assert "absent.safetensors" in capsys.readouterr().err


def test_without_a_command_one_sentence_tells_what_to_do(capsys):
    assert run() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run("animate", "--help") == 0
    assert "--motion-bucket" in capsys.readouterr().out
