"""Seamless loops on models whose answer is known in closed form."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import svd_core as svd
from svd_core.controls.between import INBETWEEN_MODES
from svd_core.controls.loop import LatentRoll, decode_closed, roll_stride
from svd_core.model.decoding import frames_to_image
from svd_core.pictures import open_picture
from svd_core.pipelines.between import (
    LOOP_MODES,
    check_loop_mode,
    fit_alike,
    inbetween,
    join,
    loop,
    pair_up,
)
from svd_core.sampling.controls import Control
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.schedules import karras_sigmas
from tests.controls.test_between import FRAMES, perfect, picture, plain, steps_of, walk
from tests.helpers.checkpoint_files import SMALL
from tests.helpers.motion_models import sample_between, sample_loop


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_the_step_from_the_last_frame_to_the_first_is_like_the_others(mode):
    clip = sample_loop(walk, picture(1.0), FRAMES, karras_sigmas(25), Guidance(torch.ones(1)), mode=mode)
    steps = steps_of(clip)
    assert len(clip) == FRAMES - 1
    assert 0.7 * steps.median() < steps[-1] < 1.4 * steps.median(), steps
    without = steps_of(plain())
    assert without[-1] > 1.8 * without.median()


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_tied_ends_are_the_picture_while_the_layout_forms_and_one_frame_ever_after(mode):
    """The model leaves the picture by 0.5, which only shows where it is not held."""
    key, noted = picture(1.0), []

    class Noting(Control):
        def edit_state(self, run, x, sigma, denoise):
            noted.append((sigma, denoise(x, max(sigma, 1e-3), edited=True)))
            return x

    def leaving(x, sigma, condition):
        return walk(x, sigma, condition) + torch.linspace(0.2, 0.5, len(x)).reshape(-1, 1, 1, 1)

    given = (FRAMES, karras_sigmas(25), Guidance(torch.ones(1)))
    clip = sample_between(leaving, key, key, *given, mode=mode, tied=True, controls=[Noting()])
    torch.testing.assert_close(clip[0], clip[-1], atol=0.02, rtol=0)
    for sigma, estimate in noted:
        assert torch.equal(estimate[0], estimate[-1])
        assert torch.equal(estimate[0], key.latent[0]) == (sigma > 16 * 24 / 96)


@pytest.mark.parametrize("mode", LOOP_MODES)
def test_loops_of_one_picture_are_closed_pairs_or_rolled(mode):
    given = (FRAMES, karras_sigmas(8), Guidance(torch.ones(1)))
    clip = sample_loop(walk, picture(0.0), *given, mode=mode, seed=3)
    if mode == "roll":
        assert torch.equal(clip, plain(steps=8, controls=[LatentRoll()]))
    else:
        (pair,) = pair_up([picture(0.0)], closed=True)
        assert torch.equal(clip, join([sample_between(walk, *pair, *given, mode=mode, seed=3, tied=True)], closed=True))


def drifting(x, sigma, condition):
    """The perfect denoiser of clips whose frames forget each other slowly; any frame may be the first."""
    time = torch.arange(len(x)).float()
    return perfect(0.8 ** (time[:, None] - time[None]).abs(), x, torch.zeros(1), sigma)


def test_rolling_closes_a_clip():
    open_, closed = (steps_of(plain(model=drifting, steps=50, controls=c)) for c in ([], [LatentRoll()]))
    assert open_[-1] > 1.5 * open_.median()
    assert closed[-1] < 1.15 * closed.median(), closed


def test_zero_roll_is_bit_equal_to_no_control():
    assert torch.equal(plain(controls=[LatentRoll(0.0)]), plain())


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 13, 14, 16, 24, 25])
def test_rolling_gives_every_frame_its_turn_as_the_first(frames):
    stride = roll_stride(frames)
    assert {step * stride % frames for step in range(frames)} == set(range(frames))
    assert frames < 5 or abs(stride - frames / 2) <= 2


def test_rolled_evaluations_are_rolled_back():
    """A model that marks the first frame that it sees marks another frame of the clip each time, until it is held."""
    noted = []

    def model(x, sigma, condition):
        estimate = torch.zeros_like(x)
        estimate[0] = 1.0
        return estimate

    plain(
        model=model,
        steps=12,
        controls=[
            LatentRoll(),
            type(
                "Noting",
                (Control,),
                {"edit_estimate": lambda self, run, x, s, e: noted.append((s, e[:, 0, 0, 0])) or e},
            )(),
        ],
    )
    firsts = [int(marks.argmax()) for _, marks in noted]
    rolling = [sigma > 0.3 * 24 / 96 for sigma, _ in noted]
    stride = roll_stride(FRAMES)
    assert firsts == [i * stride % FRAMES if rolls else 0 for i, rolls in enumerate(rolling)]
    assert 0 < sum(rolling) < len(rolling)


@pytest.mark.parametrize("context", [0, 2, 20])
def test_a_loop_is_decoded_across_its_join(context):
    latents = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))

    def decode(clip):
        sums = F.conv1d(clip.flatten(1).T[:, None], torch.ones(1, 1, 5), padding=2)  # each frame with two on each side
        return sums[:, 0].T.reshape(clip.shape)

    expected = sum(latents.roll(shift, 0) for shift in range(-2, 3))
    assert torch.allclose(decode_closed(decode, latents, context), expected, atol=1e-5) == (context >= 2)


@pytest.fixture(scope="module")
def nano():
    """The embedded model."""
    if not (Path(svd.__file__).parent / "assets" / "nano.safetensors").exists():
        pytest.skip("the embedded model is not there")
    return svd.load_model("nano")


def part_of_photograph(place):
    """Four fifths of the demo photograph: [1, H, W, 3]."""
    photograph = open_picture(Path(svd.__file__).parent / "assets" / "demo.png")[..., :3]
    height, width = (side * 4 // 5 for side in photograph.shape[1:3])
    return photograph[:, :height, place : place + width]


def test_nano_goes_from_picture_to_picture_without_a_jump(nano):
    """No step is above 2.5 times the median, and the ends are within 22 dB of the pictures."""
    pictures = [part_of_photograph(0), part_of_photograph(24)]
    frames = inbetween(nano, pictures, svd.AnimateSettings(steps=5, seed=5))
    assert frames.shape == (nano.config.frames, nano.config.height, nano.config.width, 3)
    steps = steps_of(frames)[:-1]
    assert steps.min() > 0 and steps.max() < 2.5 * steps.median(), steps
    fitted, _ = fit_alike(pictures, svd.AnimateSettings().resolve(nano.config))
    for frame, picture_ in ((frames[0], fitted[0]), (frames[-1], fitted[1])):
        assert (frame - frames_to_image(picture_[None])[0]).pow(2).mean() < 10**-2.2


@pytest.mark.parametrize("mode", LOOP_MODES)
def test_nano_loops(nano, mode):
    """The step from the last frame to the first is within 1.5 times the median."""
    frames = loop(nano, part_of_photograph(12), svd.AnimateSettings(steps=5, seed=5), mode=mode)
    assert len(frames) == nano.config.frames - (mode != "roll")
    steps = steps_of(frames)
    assert steps.min() > 0 and steps[-1] < 1.5 * steps.median(), steps


def test_the_pictures_say_where_the_clip_goes():
    model = SimpleNamespace(config=SMALL)
    for given in ({"camera": "pan right"}, {"extend": 4}):
        with pytest.raises(ValueError, match=f"{next(iter(given))} .* does not go with end pictures or loops; leave"):
            inbetween(model, [], svd.AnimateSettings(**given))


def test_bad_loops_are_answered_with_a_sentence():
    with pytest.raises(ValueError, match=r"strength .*got nan\); use"):
        LatentRoll(math.nan)
    with pytest.raises(ValueError, match=r"above 0 \(got 0\); use 0.3"):
        LatentRoll(sigma=0.0)
    with pytest.raises(ValueError, match="loop mode 'magic' is unknown; use one of blend, take turns, roll"):
        check_loop_mode("magic")
