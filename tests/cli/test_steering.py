"""Options of `animate` that steer a clip: end pictures, loops, motion masks and drags."""

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.cli.main import build_parser
from svd_core.cli.steering import option_of, steering_of
from svd_core.pipelines.steered import check_steering, open_steering, steered_clip, steering_metadata


def command(*arguments):
    """The options of `animate` with these arguments."""
    return build_parser().parse_args(["animate", "a.png", "--output", "a.mp4", *arguments])


def checked(*arguments):
    """The steering of these arguments, after its check."""
    options = command(*arguments)
    steering = open_steering(steering_of(options))
    settings = svd.AnimateSettings(camera=options.camera or "", extend=options.extend or 0)
    check_steering(steering, settings, name_of=option_of)
    return steering


@pytest.fixture
def mask(tmp_path):
    """A mask whose right half is white."""
    white = torch.zeros(40, 60, dtype=torch.uint8)
    white[:, 30:] = 255
    Image.fromarray(white.numpy()).save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--between-mode", "blend"], "--between-mode .*without --end-image IMAGE or --loop"),
        (["--loop", "--camera", "pan right"], "--loop and --camera PATH .*leave one"),
        (["--loop", "--extend", "8"], "--loop and --extend N .*leave one"),
        (["--loop", "--motion-mask", "MASK"], "--loop and --motion-mask FILE .*leave one"),
        (["--end-image", "MASK", "--between-mode", "roll"], "--between-mode 'roll' .*use one of"),
        (["--end-image", "absent.png"], "picture absent.png does not exist"),
        (["--depth", "MASK"], "--depth .*without --camera PATH"),
        (["--still-bucket", "5"], "--still-bucket .*without --motion-mask FILE"),
        (["--mask-strength", "0"], "--mask-strength .*without --motion-mask FILE"),
        (["--no-keep-still"], "--no-keep-still .*without --motion-mask FILE"),
        (["--drag", "0,0; 1,1"], "--drag PATH .*without --drag-mask FILE"),
        (["--drag-mask", "MASK"], "--drag-mask FILE .*without --drag PATH"),
        (["--drag", "0,0; 1,1 | 1,1; 0,0", "--drag-mask", "MASK"], "2 paths and .* 1 masks; give one mask for each"),
        (["--motion-mask", "absent.png"], "absent.png does not exist"),
        (["--motion-mask", "MASK", "--mask-strength", "-1"], "got -1"),
        (["--drag", "0,0; 9,9", "--drag-mask", "MASK"], "got 9,9"),
    ],
)
def test_options_that_need_or_exclude_each_other_end_in_a_sentence(arguments, words, mask):
    with pytest.raises((ValueError, OSError), match=words):
        checked(*(mask if word == "MASK" else word for word in arguments))


def test_without_steering_nothing_is_given():
    assert steering_of(command()) == {} and checked().given == {}


def test_the_command_line_brushes_and_drags(mask):
    given = ["--motion-mask", mask, "--drag", "0.7,0.5; 0.5,0.5", "--drag-mask", mask, "--drag-scale", "1.2"]
    picture = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(1))
    settings = svd.AnimateSettings(frames=3, steps=2, width=48, height=32, fit="stretch")
    clip = steered_clip(svd.load_model("nano"), picture, settings, checked(*given))
    assert clip.shape == (3, 32, 48, 3) and (clip[0, :, :23] - clip[-1, :, :23]).abs().max() == 0
    assert steering_metadata(steering_of(command(*given)))["drag_mask"] == "mask.png"


def test_metadata_hold_names_of_files_only(mask):
    given = steering_of(command("--end-image", mask, mask, "--loop"))
    assert steering_metadata(given) == {"end_images": ["mask.png", "mask.png"], "loop": True}
