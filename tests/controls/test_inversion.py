"""Inversion of a source clip: Euler's steps undone, the edit added, and the condition of the source while it runs."""

import pytest
import torch

from svd_core.controls.inversion import InvertedSource, invert, inverted_control
from svd_core.controls.signal import Signal
from svd_core.controls.source_clip import source_signal
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from tests.controls.test_driving_clip import FRAMES, PICTURE, SIDE, encode, panning
from tests.helpers.motion_models import condition, still
from tests.helpers.runs import level, run_of

LEVELS = karras_sigmas(20, sigma_max=80.0).tolist()
GENERATOR = torch.Generator().manual_seed(4)
CLIP, NOISE = torch.randn(2, 3, 4, 8, 8, generator=GENERATOR)


def curved(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The estimate of a model whose paths bend: a mixture that keeps large values more than small ones."""
    return x / (1 + sigma**2) + 0.3 * torch.tanh(x / (1 + sigma))


def back(x: torch.Tensor, levels: list[float]) -> torch.Tensor:
    """Euler's method from the first level to the last above 0."""
    for high, low in zip(levels[:-2], levels[1:-1], strict=True):
        estimate = curved(x, high)
        x = estimate + (x - estimate) * (low / high)
    return x


def test_sampling_from_the_inverted_clip_gives_the_clip() -> None:
    wanted = CLIP + LEVELS[-2] * NOISE
    errors = [
        float((back(invert(curved, CLIP, NOISE, LEVELS, corrections), LEVELS) - wanted).abs().max())
        for corrections in (0, 1, 4, 12)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.01 and errors[3] < 2e-5, "float32 holds about six digits"


def test_every_level_is_evaluated_once_and_once_for_each_correction() -> None:
    seen: list[float] = []

    def model(x, sigma):
        seen.append(sigma)
        return x / (1 + sigma**2)

    invert(model, CLIP, NOISE, [10.0, 2.0, 0.5, 0.0], corrections=0)
    assert seen == [2.0, 10.0]  # the lowest level is only noised
    seen.clear()
    invert(model, CLIP, NOISE, [10.0, 2.0, 0.5], corrections=1)
    assert seen == [2.0, 2.0, 10.0, 10.0]


def test_the_source_describes_itself_while_it_is_inverted_without_guidance() -> None:
    run = run_of((700.0, 10.0, 1.0, 0.0), condition=condition(picture=still()))
    seen = []

    def model(x, sigma, inputs):
        seen.append(inputs)
        return x * 0

    source, token = level(2.0), torch.full_like(run.inputs.condition.token, 7.0)
    control = InvertedSource(Signal(level(3.0), torch.ones_like(source[:, :1])), 0.0, source=source, token=token)
    x = control.edit_start(run, level(0.0), model)
    assert [float(inputs.condition.latent.mean()) * 0.18215 for inputs in seen] == pytest.approx([2.0] * len(seen))
    assert all(torch.equal(inputs.condition.token, token) and inputs.guidance.scale.eq(1).all() for inputs in seen)
    # An estimate of 0 scales the noisy source up; what was edited, 1, is added as it is.
    torch.testing.assert_close(control.edit_start(run, level(0.0), model), x)
    assert float((x - InvertedSource(Signal(source, level(1.0)[:, :1]), 0.0).edit_start(run, x, model)).mean()) == (
        pytest.approx(1.0, rel=1e-3)
    )


@pytest.mark.parametrize(("denoise", "strength"), [(0.4, 1.0), (0.7, 0.5), (1.0, 0.0)])
def test_the_control_holds_the_source_as_it_is_and_the_edit(denoise: float, strength: float) -> None:
    clip, edited = panning(FRAMES, 2, seed=2), PICTURE.clone()
    edited[..., 24:40, 30:46] = 0.9
    made = source_signal(encode, edited, clip, FRAMES)
    control = inverted_control(encode, lambda image: image[:, :1, :1, 0], made.signal, clip, denoise)
    assert control.strength == pytest.approx(strength) and control.active
    plain = source_signal(encode, PICTURE, clip, FRAMES).signal.latents
    torch.testing.assert_close(control.source, plain, atol=1e-5, rtol=0)
    assert (control.source[-1] - control.signal.latents[-1]).abs().max() > 0.05
    assert control.source.shape == (FRAMES, 4, SIDE // 8, SIDE // 8)
    with pytest.raises(ValueError, match=r"between 0 and 1 \(got 1.5\); use 0.4"):
        inverted_control(encode, lambda image: image, made.signal, clip, 1.5)


def test_a_clip_sampled_from_its_inversion_stays_closer_to_the_source_than_one_from_random_noise() -> None:
    """On the sampler itself, where the estimate depends on the state."""

    def model(x, sigma, given):
        return curved(x, sigma)

    source = CLIP[:, :, :8, :8]
    signal = Signal(source, torch.ones_like(source[:, :1]), first=False)
    given = {"solver": "euler", "control_scale": 1.0}
    clip = sample(model, NOISE, LEVELS, 1.0, None, controls=[InvertedSource(signal, 0.0)], **given)
    free = sample(model, NOISE, LEVELS, 1.0, None, **given)
    assert (clip - curved(source, LEVELS[-2])).abs().mean() < 0.1 * (free - source).abs().mean()
