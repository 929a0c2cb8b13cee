"""A changed clip: the edit of the first frame in all frames, light that stays, and what denoising means."""

import pytest
import torch

from svd_core.controls.signal import PartialRenoise, Signal
from svd_core.controls.source_clip import DENOISE, SOURCE_SIGMA, source_control, source_frames, source_signal
from tests.controls.test_driving_clip import FRAMES, PICTURE, SIDE, encode, panning
from tests.helpers.runs import run_of, start_of

SPEED = 2
SOURCE = panning(FRAMES, SPEED, seed=2)  # moves left
RED = torch.tensor([0.9, -0.9, -0.9]).reshape(1, 3, 1, 1)
AT = (slice(None), slice(None), slice(24, 40), slice(30, 46))


def with_patch():
    edited = PICTURE.clone()
    edited[AT] = RED
    return edited


def test_without_an_edit_the_frames_are_those_of_the_source():
    made = source_frames(PICTURE, SOURCE, FRAMES)
    torch.testing.assert_close(made.frames, SOURCE.movedim(-1, 1) * 2 - 1, atol=1e-5, rtol=0)
    assert made.valid.min() == 1


def test_an_edit_moves_with_the_clip_and_the_rest_stays():
    frames = source_frames(with_patch(), SOURCE, FRAMES).frames
    for number in range(FRAMES):
        left = 30 - SPEED * number
        inner = frames[number : number + 1, :, 26:38, left + 2 : left + 14]
        assert (inner - RED).abs().mean() < 0.1, number
        # Two pixels around the patch are soft; the rest is the source, bit for bit.
        outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
        outside[22:42, max(0, left - 2) : left + 18] = False
        source = SOURCE[number].movedim(-1, 0) * 2 - 1
        torch.testing.assert_close(frames[number][:, outside], source[:, outside], atol=1e-5, rtol=0)


def test_light_that_changes_falls_on_the_edit_too():
    darker = SOURCE - 0.02 * torch.arange(FRAMES).reshape(-1, 1, 1, 1)
    frames = source_frames(with_patch(), darker, FRAMES).frames
    left = 30 - SPEED * (FRAMES - 1)
    inner = frames[-1, 0, 26:38, left + 2 : left + 14]  # red: 0.9, darker by up to 2 * 0.08
    assert 0.7 < inner.mean() < 0.87


def test_a_new_style_reaches_what_comes_into_view():
    source = (SOURCE * 0.6 + 0.2).clamp(0, 1)
    bluish = (source[:1].movedim(-1, 1) * 2 - 1) + torch.tensor([-0.3, 0.0, 0.3]).reshape(1, 3, 1, 1)
    made = source_frames(bluish, source, FRAMES).frames
    change = made[-1] - (source[-1].movedim(-1, 0) * 2 - 1)
    assert (change[0] + 0.3).abs().mean() < 0.03 and (change[2] - 0.3).abs().mean() < 0.03


def test_the_signal_holds_every_frame():
    made = source_signal(encode, with_patch(), SOURCE, FRAMES)
    assert made.signal.latents.shape == (FRAMES, 4, SIDE // 8, SIDE // 8) and made.signal.valid.min() == 1
    torch.testing.assert_close(made.signal.latents[:1], encode(with_patch()) * 0.18215)


@pytest.mark.parametrize(
    ("denoise", "strength"),
    [(DENOISE, 1.0), (0.7, 0.5), (1.0, 0.0), (0.1, 1.5)],
    ids=["default", "half", "all", "little"],
)
def test_more_denoising_starts_at_more_noise(denoise, strength):
    signal = source_signal(encode, PICTURE, SOURCE, FRAMES).signal
    control = source_control(signal, denoise)
    assert type(control) is PartialRenoise and control.sigma == SOURCE_SIGMA
    assert control.strength == pytest.approx(strength) and control.active == (denoise < 1)
    with pytest.raises(ValueError, match=r"between 0 and 1 \(got 1.5\); use 0.4"):
        source_control(signal, 1.5)


def test_levels_rise_with_denoising():
    run = run_of(frames=FRAMES)
    cells = run.noise.shape[-2:]
    signal = Signal(torch.zeros(FRAMES, 4, *cells), torch.ones(FRAMES, 1, *cells))
    starts = [source_control(signal, share).begin(run, start_of(run)).sigmas[0] for share in (0.2, 0.4, 0.6, 0.9)]
    assert starts == sorted(starts) and starts[0] < starts[-1]
