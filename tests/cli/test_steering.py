"""Options of `animate` that steer a clip: end pictures, loops, motion masks and drags."""

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.cli.main import build_parser
from svd_core.cli.steering import between_metadata, brush_metadata, clip_between, clip_steered


def command(*arguments):
    """The options of `animate` with these arguments."""
    return build_parser().parse_args(["animate", "a.png", "--output", "a.mp4", *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--between-mode", "blend"], "--between-mode .*without --end-image IMAGE or --loop"),
        (["--loop", "--camera", "pan right"], "--camera .*--end-image or --loop; leave one"),
        (["--loop", "--extend", "8"], "--extend .*--end-image or --loop; leave one"),
        (["--end-image", "b.png", "--between-mode", "roll"], "--between-mode roll .*--loop; use one of"),
        (["--end-image", "absent.png"], "picture absent.png does not exist"),
    ],
)
def test_command_line_options_that_exclude_each_other(arguments, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        clip_between(command(*arguments))


def test_command_line_without_end_pictures_is_as_before():
    assert clip_between(command()) is None and between_metadata(command()) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--still-bucket", "5"), "--still-bucket .*without --motion-mask FILE"),
        (("--no-keep-still",), "--no-keep-still .*without --motion-mask FILE"),
        (("--drag", "0,0; 1,1"), "--drag and --drag-mask .*give the path and the mask"),
        (("--motion-mask", "absent.png"), "absent.png does not exist"),
    ],
)
def test_command_line_options_need_their_masks(arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        clip_steered(command(*arguments))


def test_the_command_line_brushes_and_drags(tmp_path):
    white = torch.zeros(40, 60, dtype=torch.uint8)
    white[:, 30:] = 255
    for name in ("mask", "object"):
        Image.fromarray(white.numpy()).save(tmp_path / f"{name}.png")
    given = ["--motion-mask", f"{tmp_path / 'mask.png'}", "--drag", "0.7,0.5; 0.5,0.5"]
    given += ["--drag-mask", f"{tmp_path / 'object.png'}", "--drag-scale", "1.2"]
    options = command(*given)
    picture = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(1))
    settings = svd.AnimateSettings(frames=3, steps=2, width=48, height=32, fit="stretch")
    clip = clip_steered(options)(svd.load_model("nano"), picture, settings)
    assert clip.shape == (3, 32, 48, 3) and (clip[0, :, :23] - clip[-1, :, :23]).abs().max() == 0
    assert brush_metadata(options)["drag_mask"] == "object.png"
