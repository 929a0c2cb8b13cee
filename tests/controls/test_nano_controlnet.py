"""The embedded ControlNet: a clip of a photograph that it never saw follows the lines of another camera move."""

import pytest
import torch

import svd_core as svd
from svd_core.checkpoints.controlnet import NANO, load_controlnet
from svd_core.checkpoints.load import read_state_dict
from svd_core.controls.lines import line_drawing
from svd_core.pictures import open_picture

DEMO = NANO.with_name("demo.png")
FRAMES, SIDE = 4, 128
STEP = 5  # pixels per frame, about what the ControlNet was trained on


@pytest.fixture(scope="module")
def views():
    """Frames [T, H, W, 3] of a view that moves over the demo photograph, the first of which starts the clip."""
    whole = open_picture(DEMO)[..., :3].movedim(-1, 1)
    whole = torch.nn.functional.interpolate(whole, size=(192, 192), mode="area")[0].movedim(0, -1)
    return lambda step: torch.stack([whole[32:160, 32 + step * t : 160 + step * t] for t in range(FRAMES)])


def similarity(clip, control):
    """Mean correlation of the lines of two clips, without the first frame."""
    pairs = zip(line_drawing(clip)[1:, ..., 0], control[1:, ..., 0], strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair).flatten(1))[0, 1] for pair in pairs]).mean())


def test_the_file_is_small_and_made_for_the_clips_own_numbers():
    assert NANO.stat().st_size <= 8 * 10**6
    assert set(read_state_dict(str(NANO)).dtypes.values()) == {"F16"}
    loaded = load_controlnet("nano")
    assert loaded.numbers == "as the clip" and loaded.name == NANO.name
    assert loaded.config.model_channels == svd.load_model("nano").config.unet.model_channels


def test_edges_follow_the_control_more_than_without_it(views):
    frames = views(STEP)
    control = line_drawing(frames)
    given = {"frames": FRAMES, "steps": 4, "width": SIDE, "height": SIDE, "seed": 1, "motion_bucket": 40}
    model = svd.load_model("nano")
    plain = svd.animate(model, frames[:1], **given)
    steered = svd.animate(model, frames[:1], **given, controlnet="nano", controlnet_images=control)
    # docs/nano.md has the numbers of the held-out photographs; without the ControlNet, nano pushes in.
    assert similarity(steered, control) > similarity(plain, control) + 0.03
