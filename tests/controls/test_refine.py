"""Holes that are drawn again at the same noise level: what is held, what is free, when rounds end."""

import pytest
import torch

from svd_core.controls.refine import HIGH, LOW, MOST_ROUNDS, agreement, refine_holes, refines_at
from svd_core.controls.signal import NEAR, ReplaceEstimate, Signal
from tests.helpers.runs import SCALE, SIDE, level, run_of

KNOWN = torch.ones(4, 1, SIDE, SIDE, dtype=torch.bool)
KNOWN[1:, :, :, SIDE // 2 :] = False
SIGMA = 9.0 * SCALE


class Answers:
    """A model that answers with the given levels, one after the other, and keeps what it saw."""

    def __init__(self, *values: float) -> None:
        self.values, self.seen = list(values), []

    def __call__(self, x, sigma):
        self.seen.append(x.clone())
        return level(self.values[len(self.seen) - 1])


def test_known_cells_are_held_with_the_noise_of_the_run_and_holes_get_the_answer_with_fresh_noise() -> None:
    run, model = run_of(), Answers(5.0, 7.0)
    got = refine_holes(run, level(1.0), SIGMA, model, level(3.0), KNOWN, 2)
    held, free = level(3.0) + SIGMA * run.noise, KNOWN.expand(-1, 4, -1, -1).logical_not()
    for x in (*model.seen, got):
        torch.testing.assert_close(x[~free], held[~free])
    torch.testing.assert_close(model.seen[0][free], level(1.0)[free])  # the first look is at the state as it is
    fresh = run.fresh_noise() * SIGMA
    torch.testing.assert_close(model.seen[1][free], (level(5.0) + fresh)[free])
    torch.testing.assert_close(got[free], (level(7.0) + fresh)[free])


@pytest.mark.parametrize(
    ("answers", "rounds", "looks"),
    [((5.0, 5.01, 9.0), 3, 2), ((5.0, 5.03, 5.06), 3, 3), ((5.0, 6.0, 6.0, 6.0), 4, 3), ((5.0,), 1, 1)],
)
def test_rounds_end_when_the_answer_no_longer_changes(answers: tuple, rounds: int, looks: int) -> None:
    model = Answers(*answers)
    refine_holes(run_of(), level(1.0), SIGMA, model, level(3.0), KNOWN, rounds)
    assert len(model.seen) == looks


def test_a_settled_patch_keeps_its_noise_while_others_go_on() -> None:
    run, seen = run_of(), []
    known = torch.zeros(4, 1, SIDE, SIDE, dtype=torch.bool)

    def model(x, sigma):
        seen.append(x.clone())
        answer = level(0.0)
        answer[..., 4:] = float(len(seen))  # the second patch of each row never settles
        return answer

    calls = iter([level(1.0), level(2.0), level(4.0)])
    run = type(run)(**(vars(run) | {"fresh_noise": lambda: next(calls)}))
    got = refine_holes(run, level(1.0), 1.0, model, level(3.0), known, 3)
    torch.testing.assert_close(got[..., 0], level(1.0)[..., 0])  # the noise of the first round
    torch.testing.assert_close(got[..., -1], level(3.0 + 4.0)[..., -1])


def test_nothing_is_evaluated_without_holes() -> None:
    x = level(1.0)
    assert refine_holes(run_of(), x, SIGMA, None, level(3.0), KNOWN | True, 2) is x


@pytest.mark.parametrize(("sigma", "refined"), [(HIGH, True), (HIGH * 1.01, False), (LOW * 1.01, True), (LOW, False)])
def test_levels_at_which_forms_settle_are_refined(sigma: float, refined: bool) -> None:
    assert refines_at(run_of(), sigma * SCALE) is refined


@pytest.mark.parametrize(("sigma", "looks"), [(7.9, 0), (8.0, 0), (8.1, 2), (59.0, 2), (61.0, 0)])
def test_replacing_refines_guided_levels_only(sigma: float, looks: int) -> None:
    model = Answers(*range(0, 9, 2))
    control = ReplaceEstimate(Signal(level(3.0), KNOWN.float()), refine=2)
    control.edit_state(run_of(), level(1.0), sigma * SCALE, model)
    assert len(model.seen) == looks


def test_agreement_is_one_where_estimates_match_and_falls_with_the_square_of_their_distance() -> None:
    difference = torch.zeros(1, 4, 10, 10)
    difference[..., 5:, :] = 2.0  # half of the cells: the 0.8 quantile is 2
    weight = agreement(difference, torch.ones(1, 1, 10, 10))
    assert torch.equal(weight[..., :5, :], torch.ones(1, 1, 5, 10))
    torch.testing.assert_close(weight[..., 5:, :], torch.full((1, 1, 5, 10), 0.36788), rtol=1e-4, atol=0)
    assert torch.equal(agreement(difference, torch.zeros(1, 1, 10, 10))[..., :5, :], torch.ones(1, 1, 5, 10))


@pytest.mark.parametrize(("times", "weighed"), [(0.99 * NEAR, True), (1.01 * NEAR, False)])
def test_cells_that_the_model_contradicts_are_let_go_near_the_release(times: float, weighed: bool) -> None:
    estimate = level(3.0)
    estimate[1:, :, :, :2] = 5.0
    control = ReplaceEstimate(Signal(level(3.0), torch.ones(4, 1, SIDE, SIDE)), refine=1)
    got = control.edit_estimate(run_of(), estimate, 8 * SCALE * times, estimate)
    assert bool((got[1:, :, :, 0] > 3.5).all()) is weighed


@pytest.mark.parametrize("rounds", [-1, MOST_ROUNDS + 1])
def test_rounds_have_a_limit(rounds: int) -> None:
    with pytest.raises(ValueError, match=rf"refine must be 0 to 4 rounds \(got {rounds}\); use 2"):
        ReplaceEstimate(Signal(level(3.0), KNOWN.float()), refine=rounds)
