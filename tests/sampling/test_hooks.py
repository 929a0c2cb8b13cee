"""The hooks of sampling: when each is called, in which order, and with which values."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from svd_core.condition import Condition
from svd_core.sampling.controls import (
    Control,
    Hooks,
    Inputs,
    Run,
    Start,
    active_controls,
    finish_frames,
    resolution_scale,
)
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.reuse import ReuseFeatures
from svd_core.sampling.sampler import sample

LEVELS = (9.0, 4.0, 1.0, 0.0)


def condition(frames: int = 3) -> Condition:
    return Condition(torch.rand(frames, 1, 5), torch.rand(frames, 4, 4, 6), torch.rand(frames, 6))


def make_run(levels: tuple[float, ...] = LEVELS) -> Run:
    noise = torch.zeros(3, 4, 4, 6)
    return Run(noise, (9.0, 0.0), Inputs(None, None, Guidance(1.0)), lambda: noise, levels)


class Noting(Control):
    """Records the calls of its hooks, and adds `number` at each."""

    def __init__(self, number: float, log: list) -> None:
        self.number, self.log = number, log

    def edit_noise(self, noise, seed):
        self.log.append(("noise", self.number, seed))
        return noise * self.number

    def begin(self, run, start):
        self.log.append(("begin", self.number, run.levels))
        return Start(start.x + self.number, start.sigmas)

    def edit_inputs(self, run, sigma, inputs):
        self.log.append(("inputs", self.number, sigma))
        return inputs._replace(condition=(*inputs.condition, self.number))

    def wrap(self, run, evaluate):
        self.log.append(("wrap", self.number, run.levels))
        return lambda x, sigma, inputs: 2 * evaluate(x, sigma, inputs) + self.number

    def edit_estimate(self, run, x, sigma, estimate):
        self.log.append(("estimate", self.number, sigma))
        return estimate * self.number

    def edit_state(self, run, x, sigma, denoise):
        self.log.append(("state", self.number, sigma))
        return x + self.number

    def edit_frames(self, frames):
        return frames * 2 + self.number


class Inner(Noting):
    innermost = True


class Outer(Noting):
    outermost = True


class Idle(Noting):
    active = False


@pytest.mark.parametrize(("height", "width", "scale"), [(72, 128, 1.0), (36, 64, 0.5), (16, 16, 1 / 6), (144, 64, 1.0)])
def test_sigmas_are_scaled_by_the_side_of_the_latents(height, width, scale):
    assert resolution_scale(height, width) == pytest.approx(scale)


def test_a_run_finds_the_levels_around_a_sigma():
    run = make_run()
    assert [run.above(sigma) for sigma in LEVELS[1:]] == [9.0, 4.0, 1.0]
    assert [run.below(sigma) for sigma in (700.0, 9.0, 4.1, 4.0, 0.5, 0.0)] == [9.0, 4.0, 4.0, 1.0, 0.0, 0.0]
    assert run.scale == pytest.approx(math.sqrt(4 * 6) / 96)


def test_a_run_and_its_controls_cannot_be_changed_by_a_hook():
    with pytest.raises(FrozenInstanceError):
        make_run().levels = ()
    with pytest.raises(FrozenInstanceError):
        ReuseFeatures().interval = 2


def test_a_control_changes_nothing_by_default():
    control, run, x = Control(), make_run(), torch.rand(3, 4, 4, 6)
    start, inputs = Start(x, [1.0, 0.0]), Inputs(None, None, Guidance(1.0))
    assert control.active and not (control.innermost or control.outermost or control.closed or control.edits_frames)
    assert control.edit_noise(x, 3) is x and control.begin(run, start) is start
    assert control.edit_inputs(run, 1.0, inputs) is inputs and control.wrap(run, len) is len
    assert control.edit_estimate(run, x, 1.0, x) is control.edit_state(run, x, 1.0, None) is control.edit_frames(x) is x


def test_hooks_are_called_in_the_order_of_the_controls():
    log: list = []
    run = replace(make_run(()), inputs=Inputs((), None, Guidance(1.0)))
    seen = []

    def evaluate(x, sigma, inputs):
        seen.append((sigma, inputs.condition))
        return x

    hooks = Hooks([Noting(3.0, log), Idle(100.0, log), Noting(5.0, log)], run, evaluate)
    x, levels = hooks.begin(Start(torch.zeros(1), list(LEVELS)))
    assert (x.item(), levels) == (8.0, list(LEVELS))
    assert log == [("begin", 3.0, ()), ("begin", 5.0, ()), ("wrap", 3.0, LEVELS), ("wrap", 5.0, LEVELS)]
    log.clear()
    plain = hooks.denoise(torch.ones(1), 4.0)
    assert plain.item() == 2 * (2 * 1 + 3) + 5 and seen == [(4.0, (3.0, 5.0))]
    assert log == [("inputs", 3.0, 4.0), ("inputs", 5.0, 4.0)]
    edited = hooks.denoise(torch.ones(1), 4.0, Inputs((7.0,), None, Guidance(1.0)), edited=True)
    assert edited.item() == 15 * 15 and seen[1] == (4.0, (7.0, 3.0, 5.0))
    assert log[-2:] == [("estimate", 3.0, 4.0), ("estimate", 5.0, 4.0)]
    assert hooks.after_step(torch.zeros(1), 1.0).item() == 8.0
    assert log[-2:] == [("state", 3.0, 1.0), ("state", 5.0, 1.0)]


def test_innermost_wraps_get_the_model_and_outermost_all_other_wraps():
    log: list = []
    hooks = Hooks([Outer(1.0, log), Noting(3.0, log), Inner(5.0, log)], make_run(()), lambda x, sigma, inputs: x)
    hooks.begin(Start(torch.zeros(1), list(LEVELS)))
    assert [number for name, number, _ in log if name == "wrap"] == [5.0, 3.0, 1.0]


def test_the_sampler_gives_hooks_its_seed_levels_and_end():
    log: list = []
    noise = torch.randn(3, 4, 4, 6)

    class Scaled(Noting):
        edit_inputs, wrap = Control.edit_inputs, Control.wrap

    sample(lambda x, sigma, c: x * 0, noise, LEVELS, 1.0, condition(), seed=8, controls=[Scaled(1.0, log)])
    assert log[:2] == [("noise", 1.0, 8), ("begin", 1.0, ())]
    assert [sigma for name, _, sigma in log if name == "estimate"] == [9.0, 4.0, 1.0]
    assert [sigma for name, _, sigma in log if name == "state"] == [4.0, 1.0, 0.0]
    log.clear()
    sample(lambda x, sigma, c: x * 0, noise, LEVELS, 1.0, condition(), controls=[Scaled(1.0, log)])
    assert log[0] == ("noise", 1.0, 0)


@pytest.mark.parametrize("solver", ["lcm", "euler"])
def test_the_seed_of_fresh_noise_is_0_unless_given(solver):
    def run(**given):
        churn = 4.0 if solver == "euler" else 0.0
        noise = torch.ones(2, 4, 2, 2)
        return sample(lambda x, s, c: x / 2, noise, (5.0, 2.0, 0.0), 1.0, None, solver=solver, churn=churn, **given)

    assert torch.equal(run(), run(seed=0)) and not torch.equal(run(), run(seed=1))


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
def test_a_step_to_sigma_1_is_a_step_like_others(solver):
    noise = torch.ones(1, 4, 2, 2)

    def ends(middle):
        # With an estimate of 0 the state falls in proportion to sigma.
        seen = []
        sample(
            lambda x, s, c: x * 0,
            noise,
            (3.0, middle, 0.0),
            1.0,
            None,
            solver=solver,
            on_step=lambda step: seen.append(step.x),
        )
        return seen[0].mean().item()

    start = math.sqrt(10)
    assert ends(1.0) == pytest.approx(start / 3) and ends(1.5) == pytest.approx(start / 2)


def test_finished_frames_pass_through_the_active_controls_in_order():
    log: list = []
    frames = finish_frames(torch.ones(2), [Noting(1.0, log), Idle(50.0, log), Noting(4.0, log)])
    assert frames.tolist() == [10.0, 10.0]


def test_what_is_no_control_is_refused_with_its_place_and_type():
    good = Control()
    assert active_controls([good]) == [good] and active_controls([]) == []
    with pytest.raises(ValueError, match=r"control 2 is a str; use"):
        active_controls([good, "pan left"])


def test_turned_inputs_have_reversed_rows_and_no_flag():
    c = condition()
    turned = Inputs(c, None, Guidance(torch.tensor([1.0, 2.0, 3.0])), backward=True).turned()
    assert torch.equal(turned.condition.latent, c.latent.flip(0)) and turned.unconditional is None
    assert turned.guidance.scale.tolist() == [3.0, 2.0, 1.0] and not turned.backward and turned.features is None
