"""The sampler's hook points and the three modes of imposing a signal, on models with a closed-form answer."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from svd_core.condition import Condition
from svd_core.controls.camera.control import camera_control
from svd_core.controls.signal import SIGNAL_MODES, DualClock, PartialRenoise, ReplaceEstimate, Signal
from svd_core.sampling.controls import Control, Run, Start, resolution_scale
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from svd_core.sampling.solvers import SOLVERS

FRAMES, H, W = 5, 72, 128  # the grid for which reference sigmas are given, so that none is scaled
SPREAD = 0.5


def free_model(x, sigma, condition=None):
    """The perfect denoiser of clips that are normal about 0, so it follows no path by itself."""
    return SPREAD**2 * x / (SPREAD**2 + sigma**2)


def signal(frames=FRAMES, height=H, width=W, seed=3):
    latents = torch.randn(frames, 4, height, width, generator=torch.Generator().manual_seed(seed))
    return Signal(latents, torch.ones(frames, 1, height, width))


def run(controls=(), solver="euler", steps=8, **changes):
    values = {"noise": start_noise(FRAMES, H, W, seed=1), "sigmas": karras_sigmas(steps), "guidance": 1.0}
    return sample(free_model, condition=None, solver=solver, controls=controls, **values | changes)


def likeness(clip, wanted):
    """Correlation with the signal after frame 0, which is held anyway."""
    return torch.corrcoef(torch.stack([clip[1:].flatten(), wanted.latents[1:].flatten()]))[0, 1].item()


SPEEDS = tuple(range(-4, 5))  # cells per frame
STILL = torch.randn(4, H, W, generator=torch.Generator().manual_seed(9))


def panned(speed, still=STILL):
    """The still moved left by `speed` cells every frame, round the edge: [T, 4, h, w]."""
    return torch.stack([still.roll(-speed * t, -1) for t in range(FRAMES)])


def panning_model(x, sigma, condition=None):
    """The perfect denoiser of a world of nine clips: the still, panned at some speed, mostly not at all."""
    clips = torch.stack([panned(speed) for speed in SPEEDS])  # [9, T, 4, h, w]
    prior = torch.tensor([0.0 if speed == 0 else -6.0 for speed in SPEEDS])
    likely = torch.softmax(prior - (x - clips).pow(2).sum((1, 2, 3, 4)) / (2 * sigma**2), 0)
    return (likely.reshape(-1, 1, 1, 1, 1) * clips).sum(0)


def speed_of(clip):
    """The speed of the clip of that world that `clip` is; NaN where it is none of them."""
    errors = torch.stack([(clip - panned(speed)).pow(2).mean() for speed in SPEEDS])
    return SPEEDS[int(errors.argmin())] if errors.min() < 1e-4 else math.nan


def rough(speed):
    """A poor warp to that speed: blurred, with a hole filled with nothing."""
    blurred = (panned(speed) + F.avg_pool2d(panned(speed), (1, 3), stride=1, padding=(0, 1))) / 2
    valid = torch.ones(FRAMES, 1, H, W)
    valid[..., W - 12 :] = 0.0
    return Signal(torch.cat([panned(speed)[:1], (blurred * valid)[1:]]), valid)


class Noting(Control):
    """Writes down which hook was called at which sigma."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def begin(self, run, start):
        self.notes.append((self.name, "begin"))
        return start

    def edit_inputs(self, run, sigma, inputs):
        self.notes.append((self.name, "inputs", sigma))
        return inputs

    def wrap(self, run, evaluate):
        def wrapped(x, sigma, inputs):
            self.notes.append((self.name, "model", sigma))
            return evaluate(x, sigma, inputs)

        return wrapped

    def edit_estimate(self, run, x, sigma, estimate):
        self.notes.append((self.name, "estimate", sigma))
        return estimate

    def edit_state(self, run, x, sigma, denoise):
        self.notes.append((self.name, "state", sigma))
        return x


def test_hooks_are_asked_in_order_and_the_last_wrapper_is_outermost():
    notes = []
    run([Noting("a", notes), Noting("b", notes)], sigmas=[2.0, 1.0])
    expected = [("a", "begin"), ("b", "begin"), ("a", "inputs", 2.0), ("b", "inputs", 2.0), ("b", "model", 2.0)]
    expected += [("a", "model", 2.0), ("a", "estimate", 2.0), ("b", "estimate", 2.0)]
    assert notes == expected + [("a", "state", 1.0), ("b", "state", 1.0)]


@pytest.mark.parametrize("solver", SOLVERS)
def test_hooks_that_change_nothing_leave_the_clip_bit_equal(solver):
    plain = run(solver=solver)
    assert torch.equal(run([Control()], solver=solver), plain)
    assert torch.equal(run([Noting("a", []), Noting("b", [])], solver=solver), plain)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_zero_strength_is_bit_equal_to_no_control(mode, solver):
    assert torch.equal(run([camera_control(signal(), mode, strength=0.0)], solver=solver), run(solver=solver))


def test_inputs_can_change_from_evaluation_to_evaluation():
    class Late(Control):
        def edit_inputs(self, run, sigma, inputs):
            vector = torch.full((FRAMES, 1), 5.0 if sigma > 1 else 7.0)
            condition = Condition(inputs.condition.token, inputs.condition.latent, vector)
            return inputs._replace(condition=condition, guidance=Guidance(torch.tensor(2.0)))

    seen = []

    def model(x, sigma, condition):
        seen.append((sigma, condition.vector.shape[0], condition.vector[0, 0].item(), bool(condition.token.any())))
        return x * 0

    condition = Condition(torch.ones(1, 1, 2), torch.ones(1, 4, H, W), torch.ones(1, 1))
    sample(model, start_noise(FRAMES, H, W, 1), [2.0, 0.5, 0.0], 1.0, condition, controls=[Late()])
    assert seen == [(2.0, 5, 5.0, False), (2.0, 5, 5.0, True), (0.5, 5, 7.0, False), (0.5, 5, 7.0, True)]


def test_a_control_may_start_elsewhere_on_other_sigmas():
    class Elsewhere(Control):
        def begin(self, run, start):
            return Start(torch.full_like(start.x, 3.0), [1.5, 0.5, 0.0])

    states, steps = [], []
    sample(
        lambda x, sigma, _: states.append((x.mean().item(), sigma)) or x,
        start_noise(FRAMES, H, W, 1),
        karras_sigmas(9),
        1.0,
        None,
        controls=[Elsewhere()],
        on_step=lambda step: steps.append((step.index, step.steps)),
    )
    assert states == [(3.0, 1.5), (3.0, 0.5)] and steps == [(0, 2), (1, 2)]


def test_fresh_noise_never_repeats_the_start_noise():
    drawn = []

    class Drawing(Control):
        def edit_state(self, run, x, sigma, denoise):
            drawn.extend([run.noise, run.fresh_noise()])
            return x

    run([Drawing()], sigmas=[2.0, 1.0, 0.0], seed=1)
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[3])


@pytest.mark.parametrize("speed", [-3, -1, 2, 4])
@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_each_mode_imposes_its_path_and_the_model_makes_it_real(mode, speed):
    noise = start_noise(FRAMES, H, W, seed=1)
    given = {"noise": noise, "sigmas": karras_sigmas(12), "guidance": 1.0, "condition": None}
    assert speed_of(sample(panning_model, **given)) == 0
    clip = sample(panning_model, **given, controls=[camera_control(rough(speed), mode)])
    assert speed_of(clip) == speed


@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_a_little_strength_leaves_the_motion_to_the_model(mode):
    given = {"noise": start_noise(FRAMES, H, W, seed=1), "sigmas": karras_sigmas(12), "guidance": 1.0}
    control = camera_control(rough(3), mode, strength=0.02)
    assert speed_of(sample(panning_model, condition=None, **given, controls=[control])) == 0


@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_more_strength_follows_the_signal_more_closely(mode):
    wanted = signal()
    levels = [likeness(run([camera_control(wanted, mode, strength=s)], steps=20), wanted) for s in (0.5, 1, 1.6, 2.2)]
    assert abs(likeness(run(steps=20), wanted)) < 0.02
    assert all(later > earlier for earlier, later in itertools.pairwise(levels)) and levels[-1] > 0.5, levels


def test_partial_renoise_starts_from_the_noised_signal_and_skips_what_is_above():
    wanted, states = signal(), []
    noise = start_noise(FRAMES, H, W, 1)
    sample(
        lambda x, sigma, _: states.append((x, sigma)) or free_model(x, sigma),
        noise,
        karras_sigmas(25),
        1.0,
        None,
        controls=[PartialRenoise(wanted, 1.0, sigma=30.0)],
    )
    sigmas = [sigma for _, sigma in states]
    assert sigmas[0] == pytest.approx(30.0)
    assert sigmas[1:] == [s for s in karras_sigmas(25).tolist() if 0 < s < 30 * 0.97]
    torch.testing.assert_close(states[0][0], wanted.latents + noise * sigmas[0])


def test_dual_clock_holds_sure_cells_to_its_sigma_and_frees_the_others_at_once():
    wanted = signal()
    wanted.valid[..., : W // 2] = 0.0
    noise, steps = start_noise(FRAMES, H, W, 1), []
    control = DualClock(wanted, 1.0, sigma=10.0, sigma_weak=75.0)
    clip = run([control], steps=25, on_step=steps.append)
    sigmas = [*(step.sigma for step in steps[1:]), 0.0]
    assert steps[0].sigma == pytest.approx(75.0) and min(abs(sigma - 10) for sigma in sigmas) < 1e-4
    for step, sigma in zip(steps, sigmas, strict=True):
        held = (step.x - (wanted.latents + noise * sigma))[1:].abs().amax((0, 1, 2))  # [W]
        assert bool((held[W // 2 :] < 1e-3).all()) == (sigma > 9.99)
        assert bool((held[: W // 2] > 1e-3).any())
    sure, free = (
        likeness(clip[..., half], Signal(wanted.latents[..., half], wanted.valid[..., half]))
        for half in (slice(W // 2, None), slice(W // 2))
    )
    assert sure > 2 * free


def test_replaced_estimates_are_the_signal_where_it_is_valid_until_its_sigma():
    wanted, steps = signal(), []
    wanted.valid[..., : W // 2] = 0.0
    run([ReplaceEstimate(wanted, 1.0, sigma=8.0)], steps=25, on_step=steps.append)
    for step in steps:
        same = (step.denoised[1:, :, :, W // 2 :] - wanted.latents[1:, :, :, W // 2 :]).abs().max() < 1e-6
        assert bool(same) == (step.sigma > 8.0)
        assert (step.denoised[1:, :, :, : W // 2] - wanted.latents[1:, :, :, : W // 2]).abs().max() > 0.1


def test_only_the_cells_that_agree_best_are_replaced():
    wanted = signal()
    estimate = torch.zeros_like(wanted.latents)
    control, told = ReplaceEstimate(wanted, 1.0, keep=0.25), fake_run()
    replaced = (control.edit_estimate(told, estimate, 100.0, estimate) != 0).any(1)[1:]  # [T - 1, h, w]
    assert replaced.float().mean().item() == pytest.approx(0.25, abs=0.001)
    size = wanted.latents.abs().mean(1)[1:]
    assert size[replaced].max() <= size[~replaced].min() + 0.5  # per frame, so limits differ a little
    for t in range(FRAMES - 1):
        assert size[t][replaced[t]].max() <= size[t][~replaced[t]].min()


def test_the_weight_falls_evenly_to_the_last_frame():
    wanted = signal()
    estimate = torch.zeros_like(wanted.latents)
    got = ReplaceEstimate(wanted, 1.0, last=0.6).edit_estimate(fake_run(), estimate, 100.0, estimate)
    for t, weight in enumerate((1.0, 0.9, 0.8, 0.7, 0.6)):
        torch.testing.assert_close(got[t], wanted.latents[t] * weight)


@pytest.mark.parametrize(("repeats", "extra"), [(1, 0), (2, 1), (3, 2)])
def test_repeats_evaluate_every_guided_level_again(repeats, extra):
    calls = []
    sample(
        lambda x, sigma, _: calls.append(sigma) or free_model(x, sigma),
        start_noise(FRAMES, H, W, 1),
        karras_sigmas(10),
        1.0,
        None,
        controls=[ReplaceEstimate(signal(), 1.0, sigma=8.0, repeats=repeats)],
    )
    sigmas = karras_sigmas(10).tolist()[:-1]
    guided = [s for s in sigmas[1:] if s > 8.0]
    assert len(calls) == len(sigmas) + extra * len(guided) and len(guided) > 2
    wanted = signal()
    clip = run([ReplaceEstimate(wanted, 2.0, sigma=8.0, repeats=repeats)], steps=20)
    assert likeness(clip, wanted) > 0.6


@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_the_first_frame_is_held_at_the_start_picture(mode):
    wanted, steps = signal(), []
    clip = run([camera_control(wanted, mode)], steps=25, on_step=steps.append)
    for step in steps:
        assert torch.equal(step.denoised[0], wanted.latents[0]) == (step.sigma > 1.0)
    # Half held below sigma 1: what is left of the free half has no more than its share.
    assert (clip[0] - wanted.latents[0]).abs().mean() < 0.5 * (clip[1] - wanted.latents[1]).abs().mean()


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(72, 128, 1.0), (40, 72, 0.559), (64, 64, 0.667), (8, 8, 0.0833)]
)
def test_sigmas_follow_the_size_of_the_clip(height, width, factor):
    assert resolution_scale(height, width) == pytest.approx(factor, abs=0.001)
    states = []
    sample(
        lambda x, sigma, _: states.append(sigma) or free_model(x, sigma),
        start_noise(2, height, width, 1),
        karras_sigmas(25),
        1.0,
        None,
        controls=[PartialRenoise(signal(2, height, width), 1.0, sigma=30.0)],
    )
    assert states[0] == pytest.approx(30 * factor, rel=0.01)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("first", "second"), list(itertools.product(SIGNAL_MODES, SIGNAL_MODES)))
def test_every_two_controls_run_together(first, second, solver):
    controls = [camera_control(signal(seed=seed), mode) for seed, mode in enumerate((first, second))]
    clip = run(controls, solver=solver, steps=4)
    assert torch.isfinite(clip).all()
    assert not torch.equal(clip, run(controls[:1], solver=solver, steps=4))


def fake_run():
    noise = torch.zeros(FRAMES, 4, H, W)
    return Run(noise, tuple(karras_sigmas(10).tolist()), None, lambda: noise)


BAD = [
    (
        "other length",
        lambda: run([PartialRenoise(signal(frames=3))]),
        "3 frames of 1024x576 pixels, the clip has 5 of 1024x576; make both",
    ),
    (
        "other size",
        lambda: run([DualClock(signal(width=64))]),
        "5 frames of 512x576 pixels, the clip has 5 of 1024x576; make both",
    ),
    ("no control", lambda: run(["pan right"]), "control 1 is a str; use objects"),
    ("strength", lambda: PartialRenoise(signal(), -1.0), r"strength .*got -1\); use 0.5 to 2"),
    ("strength NaN", lambda: PartialRenoise(signal(), math.nan), r"strength .*got nan\); use"),
    ("clocks", lambda: DualClock(signal(), 1.0, sigma=80.0), r"got 80 and 75\); use 31 and 75"),
    ("keep", lambda: ReplaceEstimate(signal(), 1.0, keep=0.0), r"keep .*got 0\); use"),
    ("repeats", lambda: ReplaceEstimate(signal(), 1.0, repeats=0), r"1 to 10 \(got 0\); use 1 to 3"),
    ("mode", lambda: camera_control(signal(), "magic"), "camera mode 'magic' is unknown; use one of partial re-noise"),
    ("setting", lambda: camera_control(signal(), "dual clock", keep=0.5), "no setting 'keep'; remove it"),
    (
        "shapes",
        lambda: Signal(torch.zeros(2, 4, 3, 3), torch.ones(2, 1, 4, 4)),
        r"\[2, 4, 3, 3\] .*\[2, 1, 4, 4\]; give",
    ),
    (
        "noisy end",
        lambda: run([PartialRenoise(signal(), 2.0)], sigmas=[700.0, 5.0]),
        "schedule ends at 5; lower the strength",
    ),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_says_value_limit_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
