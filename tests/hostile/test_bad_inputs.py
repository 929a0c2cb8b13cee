"""At least 200 bad inputs of the command line and of Python: each ends in one sentence, and none in a traceback."""

import argparse
from fractions import Fraction

import pytest
import torch

from svd_core.cli.main import COMMANDS, build_parser, main
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.pose_files import parse_poses
from svd_core.controls.drag import parse_drags
from svd_core.lab.grid import parse_list
from svd_core.pictures import as_batch, composite, fit, open_picture
from svd_core.pipelines.settings import AnimateSettings
from svd_core.report import measure
from svd_core.sampling.noise import check_seed
from svd_core.sampling.schedules import check_sigmas, make_sigmas
from svd_core.storyboard.panels import parse_text
from svd_core.video import check_output, open_clip, write_clip
from svd_core.video.clip import parse_fps

NAN, INF = float("nan"), float("inf")
PICTURE = torch.full((1, 32, 48, 3), 0.5)
MOST_MESSAGE = 600


def numeric_options() -> list[tuple[str, str]]:
    """Return every option of every command that takes a number, with its command."""
    found = []
    for name in COMMANDS:
        (commands,) = [a for a in build_parser([name])._actions if isinstance(a, argparse._SubParsersAction)]
        for action in commands.choices[name]._actions:
            if action.type in (int, float) and action.option_strings:
                found.append((name, action.option_strings[-1]))
    return found


OPTIONS = [(name, option, value) for name, option in numeric_options() for value in ("x", "")]


@pytest.mark.parametrize(("command", "option", "value"), OPTIONS)
def test_an_option_that_is_no_number_is_one_sentence(command, option, value, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, option, value])
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and "Traceback" not in said
    assert command in said and len(said) < MOST_MESSAGE


FILES = [
    (command, bad) for command in ("animate", "info", "report", "finish", "storyboard", "batch", "convert", "lab")
    for bad in ("absent.png", "absent/absent", "\x1b[31m.png", "a" * 300, "a" * 3000)
]  # fmt: skip
MORE = {
    "animate": ["--model", "nano", "--output", "x.mp4"], "finish": ["--output", "x.mp4"], "convert": ["y.safetensors"],
    "storyboard": ["--model", "nano", "--output", "x.mp4"], "batch": ["--model", "nano", "--output", "out"],
    "lab": ["--model", "nano", "--output", "x.png"],
}  # fmt: skip


@pytest.mark.parametrize(("command", "bad"), FILES)
def test_a_file_that_is_not_there_is_one_sentence(command, bad, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, bad, *MORE.get(command, [])]) in (1, 2)
    said = capsys.readouterr().err.strip()
    assert said and len(said.splitlines()) == 1 and "Traceback" not in said and len(said) < MOST_MESSAGE


CALLS = [
    *[(parse_path, (text,)) for text in (
        "", " ", "then", "pan", "pan up", "pan left x", "pan left 1e999", "pan left nan", "zoom in -1", "zoom in 0",
        "zoom in 99", "roll", "roll cw 9999", "hold", "hold 1.5", "hold -1", "hold 1e999", "fly left", "pan left for 0",
        "pan left for x", "through", "through 0", "through 0 0; x 1", "through 0 0; 1e999 0", "pan left, hold 3",
        "tilt sideways", "[" * 10_000, "pan left " * 2, "\x1b[31m", "zoom in 1.2 20deg", "static 5 6",
    )],
    *[(parse_drags, (text,)) for text in (
        "", "0.5", "0.5,0.5", "x,y", "0.5,0.5; 1,2,3", "nan,0; 1,1", "1e999,0; 0,0", "[" * 10_000, "0.5;0.5",
    )],
    *[(parse_poses, (text,)) for text in (
        "[", "[]", "[1]", "[[1]]", "[[" + "1," * 11 + '"x"]]', "url\n1 2 3", "[" * 10_000, "url\n" + "nan " * 19,
    )],
    *[(parse_text, (text,)) for text in (
        "[", "[1]", "{}", '{"panels": 1}', '[{"image": 1, "x": 2}]', '[{"seconds": "x"}]', '[{"seconds": -1}]',
        '[{"seconds": 1e999}]', '[{"move": "fly"}]', '[{"seed": 1.5}]', '[{"seed": -1}]', '[{"transition": "wipe"}]',
        "seconds\nx\n", "nothing\n1\n", 'image,seconds\n"a\n', "seconds,seconds\n1,2\n", '[{"fade": "x"}]',
        '[{"bucket": 5000}]', '[{"image": "a", "image": "b"}]', '[{"image": ["a"]}]',
    )],
    *[(parse_list, (text, "seeds")) for text in ("x", "nan", "1,,x", "1e999")],
    *[(parse_fps, (value,)) for value in (0, -1, 1001, NAN, INF, "x", None, Fraction(1, 1000))],
    *[(check_seed, (value,)) for value in (-1, 2**64, NAN)],
    *[(check_sigmas, (torch.tensor(values),)) for values in (
        [1.0], [[1.0, 0.0]], [1.0, 1.0], [0.0, 1.0], [NAN, 0.0], [INF, 0.0], [1.0, -1.0],
    )],
    *[(make_sigmas, given) for given in (
        ("karras", 0), ("karras", -1), ("karras", 10**9), ("none", 5), ("exponential", 0), ("lcm", 0),
    )],
    *[(check_output, (name,)) for name in (
        "x.avi", "x.txt", "absent/x.mp4", "x" * 300 + ".mp4", "x\0.mp4", "/dev/null/x.mp4",
    )],
    *[(open_clip, (name,)) for name in ("absent.mp4", "/dev/null", "absent", "x\0")],
    *[(open_picture, (name,)) for name in ("absent.png", "/", "/dev/null", "x\0")],
    *[(composite, (image,)) for image in (
        PICTURE * 255, PICTURE[0], PICTURE[:0], PICTURE[..., :2], PICTURE / 0, (PICTURE * 255).byte(), -PICTURE * 9,
    )],
    *[(as_batch, (image,)) for image in ("photo.png", None, 5, [1, 2])],
    *[(composite, (PICTURE, colour)) for colour in ("nocolour", "#12", (1, 2, 3), (0.5,), (NAN, 0, 0))],
    *[(fit, (PICTURE.movedim(-1, 1), *given)) for given in ((0, 8), (-8, 16), (17, 16), (16, 8), (64, 64, "zoom"))],
    *[(measure, (clip,)) for clip in (PICTURE * 255, PICTURE[0], PICTURE[:0], PICTURE / 0, [], "x", PICTURE[:, :4])],
    *[(lambda frames: write_clip(frames, "x.mp4", fps=7), (frames,)) for frames in (
        PICTURE[0], PICTURE[:0], PICTURE / 0, [], PICTURE[..., :2],
    )],
]  # fmt: skip
SETTINGS = [
    {name: value}
    for name, values in {
        "width": (0, -8, 7, 17, 10**9), "height": (0, -8, 7, 17, 10**9), "frames": (0, -1, 10**9),
        "steps": (0, -1, 10**9), "fps": (0, -1, NAN, INF), "motion_bucket": (-1, NAN, INF),
        "augmentation": (-1, NAN, INF), "seed": (-1, 2**64), "fit": ("zoom",), "solver": ("none",),
    }.items()
    for value in values
]  # fmt: skip


@pytest.mark.parametrize(("call", "given"), CALLS)
def test_a_bad_value_in_python_is_one_sentence(call, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(lambda: call(*given))


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_a_bad_setting_is_one_sentence(given):
    from svd_core.networks.config import SVDConfig

    check(lambda: AnimateSettings(**given).resolve(SVDConfig()))


def check(call) -> None:
    with pytest.raises((ValueError, OSError, TypeError)) as caught:
        call()
    said = str(caught.value)
    assert said and said.isprintable() and len(said) < MOST_MESSAGE, said[:300]


def test_the_table_is_long_enough():
    count = len(OPTIONS) + len(FILES) + len(CALLS) + len(SETTINGS)
    print(f"{count} bad inputs")
    assert count >= 200
