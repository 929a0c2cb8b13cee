"""First and last frame, chains and loops, on models whose answer is known in closed form."""

import itertools
import logging

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.between import INBETWEEN_MODES, TakeTurns, inbetween_control
from svd_core.controls.camera.control import camera_control
from svd_core.controls.loop import LatentRoll
from svd_core.controls.signal import SIGNAL_MODES, Signal
from svd_core.controls.windows import Windows
from svd_core.pipelines.between import Keyframe, fit_alike, join, pair_up
from svd_core.pipelines.settings import AnimateSettings
from svd_core.sampling.controls import Control
from svd_core.sampling.guidance import Guidance, linear_guidance
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from svd_core.sampling.solvers import SOLVERS
from tests.helpers.motion_models import sample_between

FRAMES, H, W = 9, 24, 24
SPREAD = 0.3  # of one step of the walk
TIME = torch.arange(FRAMES)


def perfect(covariance, x, mean, sigma):
    """The denoised estimate of clips that are normal about `mean` with `covariance` [T, T] between frames."""
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(len(x)))
    return mean + torch.einsum("ij,j...->i...", gain, x - mean)


def walk(x, sigma, condition):
    """The perfect denoiser of random walks that start at the condition's picture."""
    time = torch.arange(len(x)).float()
    return perfect(SPREAD**2 * torch.minimum(time[:, None], time[None]), x, condition.latent, sigma)


def picture(value, height=H, width=W):
    """The keyframe of a plain picture."""
    latent = torch.full((1, 4, height, width), float(value))
    return Keyframe(Condition(torch.full((1, 1, 2), value + 9.0), latent, torch.ones(1, 3)), latent)


def between(start=0.0, end=2.0, *, steps=25, seed=3, model=walk, frames=FRAMES, **options):
    given = {"sigmas": karras_sigmas(steps), "guidance": Guidance(torch.ones(1))} | options
    return sample_between(model, picture(start), picture(end), frames, seed=seed, **given)


def plain(model=walk, solver="euler", steps=25, seed=3, controls=()):
    noise = start_noise(FRAMES, H, W, seed)
    return sample(
        model, noise, karras_sigmas(steps), 1.0, picture(0.0).condition, solver=solver, seed=seed, controls=controls
    )


def steps_of(clip):
    """Root mean square change from each frame to the next, and from the last to the first: [T]."""
    return (clip.roll(-1, 0) - clip).pow(2).mean((1, 2, 3)).sqrt()


class Recording:
    """A model that returns the state and records its inputs."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, condition):
        self.calls.append((x.clone(), sigma, condition))
        return x / (1 + sigma**2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_both_pictures_are_reached(mode, solver):
    clip = between(end=2.0, mode=mode, solver=solver)
    assert (clip[0] - 0.0).abs().max() < 1e-5 and (clip[-1] - 2.0).abs().max() < 1e-5
    without = plain(solver=solver)
    assert (without[-1].mean() - 2.0).abs() > 1.5


@pytest.mark.parametrize(("mode", "far", "uneven"), [("blend", 0.05, 1.3), ("take turns", 0.15, 1.6)])
def test_the_way_is_even_from_picture_to_picture(mode, far, uneven):
    """More than twice as far as walks of this length usually go. Blending is exact for walks, turns nearly."""
    clip = between(end=2.0, mode=mode)
    torch.testing.assert_close(clip.mean((1, 2, 3)), 2.0 * TIME / (FRAMES - 1), atol=far, rtol=0)
    steps = steps_of(clip)[:-1]
    assert steps.max() < uneven * steps.median(), steps


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_what_is_between_varies_as_the_walks_that_end_there(mode):
    clip = between(end=0.0, mode=mode, steps=50)
    expected = SPREAD * (TIME * (FRAMES - 1 - TIME) / (FRAMES - 1)).sqrt()  # a Brownian bridge
    torch.testing.assert_close(clip.std((1, 2, 3)), expected, atol=0.08, rtol=0)


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_more_strength_comes_closer_to_the_end_picture(mode):
    far = [(between(mode=mode, strength=s)[-1] - 2.0).pow(2).mean().sqrt() for s in (0.1, 0.4, 0.7, 1.0)]
    assert all(later < earlier for earlier, later in itertools.pairwise(far)), far


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_zero_strength_is_bit_equal_to_no_control(mode, solver):
    assert torch.equal(between(mode=mode, solver=solver, strength=0.0), plain(solver=solver))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_the_seed_decides(mode, solver):
    first, again, other = (between(mode=mode, solver=solver, steps=8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=0.05)


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_backward_evaluations_see_the_clip_from_its_end(mode):
    model, noise = Recording(), start_noise(FRAMES, H, W, 1)
    start, end = picture(0.0), picture(2.0)
    curve = torch.arange(FRAMES)[:, None].float()  # a motion number per frame
    condition = Condition(start.condition.token, start.condition.latent, curve)
    control = inbetween_control(mode, end.condition, start.latent, end.latent)
    sample(model, noise, [2.0, 1.0, 0.0], linear_guidance(1.0, 3.0, FRAMES), condition, controls=[control])
    forward, backward = (
        [call for call in model.calls if call[2].token.any() and call[2].token.mean() == key.condition.token.mean()]
        for key in (start, end)
    )
    assert [call[1] for call in forward] == [2.0, 1.0]
    assert [call[1] for call in backward] == ([2.0] if mode == "take turns" else [2.0, 1.0])
    for _, _, seen in forward:
        assert torch.equal(seen.latent, start.latent) and torch.equal(seen.vector, curve)
    for _, _, seen in backward:
        assert torch.equal(seen.latent, end.latent) and torch.equal(seen.vector, curve.flip(0))
    # As many unconditional evaluations, without picture.
    assert len(model.calls) == 2 * (len(forward) + len(backward))
    if mode == "blend":
        assert torch.equal(backward[0][0], forward[0][0].flip(0))


@pytest.mark.parametrize(
    ("mode", "weights"), [("blend", TIME / (FRAMES - 1)), ("take turns", (2 * TIME / (FRAMES - 1)).clamp(max=1))]
)
def test_guidance_grows_with_the_distance_from_the_picture_that_is_looked_from(mode, weights):
    """The model says 1 with a picture and 0 without, so an estimate is the guidance scale of each frame."""

    def model(x, sigma, condition):
        return torch.full_like(x, float(bool(condition.latent.any())))

    class Watching(Control):
        def __init__(self):
            self.estimates = []

        def edit_estimate(self, run, x, sigma, estimate):
            self.estimates.append(estimate[:, 0, 0, 0])
            return estimate

    watch = Watching()
    scales = linear_guidance(1.0, 3.0, FRAMES)
    end = picture(2.0)
    controls = [watch, inbetween_control(mode, end.condition, picture(1.0).latent, end.latent)]
    sample(model, start_noise(FRAMES, H, W, 1), [2.0, 1.0, 0.5], scales, picture(1.0).condition, controls=controls)
    fused = watch.estimates[0 if mode == "blend" else 1]
    torch.testing.assert_close(fused, torch.lerp(scales, scales.flip(0), weights))


def test_an_unconditional_branch_with_the_picture_gets_the_end_picture():
    model, start, end = Recording(), picture(0.0), picture(2.0)
    other = Condition(start.condition.token, start.condition.latent + 1, torch.zeros(1, 3))
    control = TakeTurns(end.condition, start.latent, end.latent)
    noise = start_noise(FRAMES, H, W, 1)
    sample(model, noise, [2.0, 1.0, 0.0], 2.0, start.condition, unconditional=other, controls=[control])
    seen = [(call[2].latent.mean().item(), call[2].vector.mean().item()) for call in model.calls]
    assert seen == [(1, 0), (0, 1), (2, 0), (2, 1), (1, 0), (0, 1)]


@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_at_most_one_extra_evaluation_a_step(mode):
    model = Recording()
    between(model=model, mode=mode, steps=20)
    assert 20 < len(model.calls) <= 40


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", [*SIGNAL_MODES, "windows", "roll", *INBETWEEN_MODES])
@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_every_other_control_takes_part(mode, other, order, solver):
    end = picture(2.0)
    own = inbetween_control(mode, end.condition, picture(0.0).latent, end.latent)
    if other in SIGNAL_MODES:
        latents = torch.randn(FRAMES, 4, H, W, generator=torch.Generator().manual_seed(5))
        extra = camera_control(Signal(latents, torch.ones(FRAMES, 1, H, W)), other)
    elif other in INBETWEEN_MODES:
        middle = picture(1.0)
        extra = inbetween_control(other, middle.condition, picture(0.0).latent, middle.latent)
    else:
        extra = Windows(5, 2) if other == "windows" else LatentRoll()
    both = plain(solver=solver, steps=5, controls=[own, extra][::order])
    assert torch.isfinite(both).all()
    assert not torch.equal(both, plain(solver=solver, steps=5, controls=[own]))
    if other not in (*SIGNAL_MODES, *INBETWEEN_MODES):
        assert (both[-1] - 2.0).abs().max() < 1e-5


def test_the_end_is_held_in_windows_too():
    clip = between(mode="take turns", controls=[Windows(5, 2)])
    assert (clip[-1] - 2.0).abs().max() < 1e-5
    assert steps_of(clip)[:-1].max() < 1.5


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("mode", INBETWEEN_MODES)
def test_a_chain_passes_through_every_picture_and_repeats_no_frame(mode, closed):
    values = (0.0, 1.0, 0.5)
    keys = [picture(value) for value in values]
    clips = [
        sample_between(walk, *pair, FRAMES, karras_sigmas(25), Guidance(torch.ones(1)), seed=seed, mode=mode)
        for seed, pair in enumerate(pair_up(keys, closed))
    ]
    clip = join(clips, closed)
    assert len(clip) == (3 * (FRAMES - 1) if closed else 2 * (FRAMES - 1) + 1)
    for number, value in enumerate(values):
        assert (clip[number * (FRAMES - 1)] - value).abs().max() < 1e-5
    steps = steps_of(clip) if closed else steps_of(clip)[:-1]
    assert steps.min() > 0.1 and steps.max() < 2.0 * steps.median(), steps


def test_pictures_of_another_aspect_are_fitted_like_the_first_and_it_is_said(caplog):
    wide, tall, same = torch.rand(1, 40, 80, 3), torch.rand(1, 80, 40, 3), torch.rand(1, 20, 40, 3)
    for mode in ("crop", "pad", "stretch"):
        caplog.clear()
        settings = AnimateSettings(width=64, height=64, frames=4, steps=2, solver="euler", fit=mode)
        with caplog.at_level(logging.WARNING, "svd_reel"):
            pictures, placement = fit_alike([wide, tall, same], settings)
        assert tuple(pictures.shape) == (3, 3, 64, 64)
        assert (placement.inner_width, placement.inner_height) == ((64, 32) if mode == "pad" else (64, 64))
        (message,) = (record.getMessage() for record in caplog.records)
        assert message.startswith("picture 2 is 40x80, the first 80x40; it is ")


def test_a_batch_is_a_chain():
    settings = AnimateSettings(width=16, height=16)
    pictures, _ = fit_alike([torch.rand(2, 16, 16, 3), torch.rand(16, 16, 3)], settings)
    assert len(pictures) == 3


BAD = [
    ("mode", lambda: between(mode="magic"), "the mode 'magic' is unknown; use one of take turns, blend"),
    ("strength", lambda: between(strength=-1.0), r"strength .*got -1\); use"),
    ("strength NaN", lambda: between(strength=float("nan")), r"got nan\); use"),
    ("frames", lambda: between(frames=2), r"at least 3 frames \(got 2\); use 14"),
    ("release", lambda: TakeTurns(None, torch.zeros(1), torch.zeros(1), sigma=0.0), r"above 0 \(got 0\); use 0.05"),
    ("one picture", lambda: pair_up([picture(1.0)]), r"needs 2 \(got 1 picture\); add an end picture"),
    ("none", lambda: fit_alike([], AnimateSettings()), "there are 0 pictures"),
    (
        "other size",
        lambda: sample_between(walk, picture(0), picture(1, 8), FRAMES, karras_sigmas(3), Guidance(torch.ones(1))),
        r"end picture .*\[1, 4, 8, 24\], but the clip needs \[1, 4, 24, 24\]; encode",
    ),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_answered_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
