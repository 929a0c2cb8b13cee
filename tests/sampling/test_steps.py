"""Single steps, schedules and evaluations worked out by hand, and the limits of their numbers."""

import math
from types import SimpleNamespace

import pytest
import torch

from svd_core.condition import Condition, Region
from svd_core.sampling.denoiser import denoise_with, scalings
from svd_core.sampling.guidance import Guidance, custom_guidance, guided_estimate, trapezoid_guidance
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import (
    align_your_steps_sigmas,
    custom_sigmas,
    exponential_sigmas,
    karras_sigmas,
    make_sigmas,
)
from svd_core.sampling.solvers import Churn, Setting, make_solver


def step(solver: str, churn: Churn, x: float, sigma: float, sigma_next: float, share: float) -> tuple[float, float]:
    """One step of ten with noise of 1 and an estimate that is a share of the state: the new state and the estimate."""
    made = make_solver(solver, Setting(10, churn, lambda: torch.ones(1)))
    ends = made.step(lambda x, sigma: share * x, torch.tensor([x]), sigma, sigma_next)
    return ends[0].item(), ends[1].item()


@pytest.mark.parametrize(
    ("solver", "share", "state", "estimate"),
    [
        # The slope at 4 is (4 - 2) / 2 = 1: to 3 at sigma 1.
        ("euler", 0.5, 3.0, 2.0),
        # The slope there is (3 - 1.5) / 1: 4 - (1 + 1.5) / 2.
        ("heun", 0.5, 2.75, 2.0),
        ("dpmpp_2m", 0.5, 3.0, 2.0),
        ("lcm", 0.5, 3.0, 2.0),  # 2 and noise of 1
        ("euler", 0.0, 2.0, 0.0),
        ("heun", 0.0, 2.0, 0.0),
    ],
)
def test_a_step_from_sigma_2_to_1(solver: str, share: float, state: float, estimate: float) -> None:
    assert step(solver, Churn(), 4.0, 2.0, 1.0, share) == pytest.approx((state, estimate))


@pytest.mark.parametrize(
    ("churn", "higher", "noise"),
    [
        (Churn(2.0), 2.4, math.sqrt(2.4**2 - 4)),  # a tenth of the amount for each of ten steps
        (Churn(4.0), 2.8, math.sqrt(2.8**2 - 4)),
        (Churn(5.0), 2 * math.sqrt(2), 2.0),  # never more noise than there is
        (Churn(90.0), 2 * math.sqrt(2), 2.0),
        (Churn(90.0, noise_scale=1.5), 2 * math.sqrt(2), 3.0),
        (Churn(90.0, 2.0, 2.0), 2 * math.sqrt(2), 2.0),  # the ends of the interval belong to it
        (Churn(90.0, 2.1), 2.0, 0.0),
        (Churn(90.0, 0.0, 1.9), 2.0, 0.0),
        (Churn(), 2.0, 0.0),
    ],
)
def test_churn_adds_noise_before_the_step(churn: Churn, higher: float, noise: float) -> None:
    # With an estimate of 0 the step scales the state to the next sigma.
    assert step("euler", churn, 4.0, 2.0, 1.0, 0.0)[0] == pytest.approx((4 + noise) / higher)


@pytest.mark.parametrize(
    ("amount", "taken"), [(0.0, True), (0.001, True), (-0.001, False), (math.inf, False), (math.nan, False)]
)
def test_churn_is_finite_and_not_negative(amount: float, taken: bool) -> None:
    if taken:
        assert Churn(amount).amount == amount
    else:
        with pytest.raises(ValueError, match=rf"got {amount:g}\); use 0"):
            Churn(amount)


@pytest.mark.parametrize(("solver", "amount", "taken"), [("heun", 1, True), ("lcm", 0, True), ("dpmpp_2m", 1, False)])
def test_only_two_solvers_take_churn(solver: str, amount: float, taken: bool) -> None:
    setting = Setting(1, Churn(amount), lambda: torch.ones(1))
    if taken:
        make_solver(solver, setting)
    else:
        with pytest.raises(ValueError, match="takes no churn"):
            make_solver(solver, setting)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: karras_sigmas(3, 1.0, 2187.0), [2187, 128, 1, 0]),  # 3 ** 7, 2 ** 7, 1 ** 7
        (lambda: karras_sigmas(4, 1.0, 10.0, 1.0), [10, 7, 4, 1, 0]),
        (lambda: karras_sigmas(1, 1.0, 10.0), [10, 0]),
        (lambda: exponential_sigmas(3, 1.0, 100.0), [100, 10, 1, 0]),
        (lambda: exponential_sigmas(1, 1.0, 100.0), [100, 0]),
        (lambda: make_sigmas("exponential", 2, sigma_min=1.0, sigma_max=1000.0, denoise=0.5), [10, 1, 0]),
        # Twice the range in the logarithm squares every node.
        (
            lambda: align_your_steps_sigmas(10, 0.002**2, 700.0**2),
            [s**2 for s in (700, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0)],
        ),
    ],
)
def test_schedules_by_hand(made, expected: list) -> None:
    assert made().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"steps": 1}, True), ({"steps": 10000}, True), ({"steps": 0}, False), ({"steps": 10001}, False),
        ({"rho": 0.5}, True), ({"rho": 0.0}, False), ({"rho": math.inf}, False), ({"rho": math.nan}, False),
        ({"sigma_min": 1e-5}, True), ({"sigma_min": 0.0}, False), ({"sigma_min": 700.0}, False),
        ({"sigma_max": math.inf}, False), ({"sigma_max": math.nan}, False),
    ],
)  # fmt: skip
def test_limits_of_schedules(given: dict, taken: bool) -> None:
    if taken:
        assert len(karras_sigmas(**{"steps": 20, **given})) == given.get("steps", 20) + 1
    else:
        with pytest.raises(ValueError, match="; use"):
            karras_sigmas(**{"steps": 20, **given})


@pytest.mark.parametrize(
    ("values", "taken"),
    [([1, 0], True), ([3, 2, 1], True), ([1], False), ([1, 1], False), ([1, 2], False), ([1, -0.1], False),
     ([math.inf, 0], False), ([2, math.nan, 0], False)],
)  # fmt: skip
def test_sigma_lists_decrease_to_zero_or_above(values: list, taken: bool) -> None:
    if taken:
        assert custom_sigmas(values).tolist() == values
    else:
        with pytest.raises(ValueError, match="; (add|correct|sort)"):
            custom_sigmas(values)


def test_sigmas_in_double_precision_stay_so() -> None:
    exact = torch.tensor([0.1, 0.0], dtype=torch.float64)
    assert custom_sigmas(exact).dtype == torch.float64 and torch.equal(custom_sigmas(exact), exact)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(9, [3] * 9), (10, [1, *[3] * 8, 1]), (20, [1, 3, *[3] * 16, 3, 1]), (30, [1, 2, 3, *[3] * 24, 3, 2, 1])],
)
def test_a_trapezoid_rises_over_a_tenth(frames: int, expected: list) -> None:
    assert trapezoid_guidance(1.0, 3.0, frames).tolist() == expected


@pytest.mark.parametrize(
    ("points", "taken"),
    [
        ([(0.0, 1.0), (1.0, 2.0)], True), ([(0.5, 1.0), (0.5, 2.0)], False), ([(-0.1, 1.0)], False),
        ([(1.1, 1.0)], False), ([(0.5, 1.0, 2.0)], False), ([(0.5,)], False), ([], False),
    ],
)  # fmt: skip
def test_points_of_a_curve_rise_from_0_to_1(points: list, taken: bool) -> None:
    if taken:
        custom_guidance(points, 5)
    else:
        with pytest.raises(ValueError, match="guidance curve"):
            custom_guidance(points, 5)


@pytest.mark.parametrize(
    ("low", "high", "sigma", "guided"),
    [
        (1, 5, 1, True),
        (1, 5, 5, True),
        (1, 5, 0.99, False),
        (1, 5, 5.01, False),
        (3, 3, 3, True),
        (0, math.inf, 9, True),
    ],
)
def test_the_ends_of_the_guidance_interval_belong_to_it(low: float, high: float, sigma: float, guided: bool) -> None:
    guidance = Guidance(torch.tensor([3.0, 0.5]), low, high)
    estimate = guided_estimate(lambda x, sigma, given: x * 0 + given, torch.zeros(2, 1), sigma, 2.0, guidance, 1.0)
    assert estimate.flatten().tolist() == ([1 + 3 * 1, 1 + 0.5 * 1] if guided else [2, 2])


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1), (2, 1), (math.nan, 1), (0, math.nan)])
def test_a_guidance_interval_rises_from_zero(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="swap the two"):
        Guidance(torch.ones(1), low, high)


def test_scales_keep_double_precision_and_serve_all_frames() -> None:
    exact = Guidance(torch.tensor([[0.1]], dtype=torch.float64))
    assert exact.scale.dtype == torch.float64 and exact.over_frames(3).tolist() == [0.1] * 3
    assert Guidance(torch.tensor(2)).scale.dtype == Guidance(torch.tensor([2.0]).half()).scale.dtype == torch.float32


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [(2.0, (1 / 5, -2 / math.sqrt(5), 1 / math.sqrt(5), math.log(2) / 4)), (1.0, (0.5, -(0.5**0.5), 0.5**0.5, 0.0))],
)
def test_scalings_by_hand(sigma: float, expected: tuple) -> None:
    assert [value.item() for value in scalings(sigma)] == pytest.approx(expected)
    assert [value.shape for value in scalings(torch.full((3, 1), sigma))] == [(3, 1)] * 4


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, 0.0])])
def test_scalings_need_a_positive_sigma(sigma) -> None:
    with pytest.raises(ValueError, match="denoise at 0.002 or more"):
        scalings(sigma)


class Spy:
    """A network that answers with its noisy channels and remembers its input."""

    def __call__(self, x, c_noise, context, vector, num_frames, **more):
        self.x, self.c_noise, self.context, self.vector = x, c_noise, context, vector
        self.frames, self.more = num_frames, more
        return x[:, :4]


def condition(value: float, frames: int = 1, **rest) -> Condition:
    return Condition(
        torch.full((frames, 1, 3), value), torch.full((frames, 4, 2, 3), value), torch.full((frames, 6), value), **rest
    )


@pytest.mark.parametrize("other", [3.0, 5.0])
def test_several_conditions_share_a_pass(other: float) -> None:
    spy, x = Spy(), torch.rand(3, 4, 2, 3)
    given = (condition(3.0), Condition(condition(7.0).token, condition(7.0).latent, condition(other).vector))
    estimate = denoise_with(spy, x, 2.0, given)
    # c_out c_in + c_skip = -2 / 5 + 1 / 5.
    torch.testing.assert_close(estimate, (-0.2 * x).expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(spy.x[:, :4], x.repeat(2, 1, 1, 1) / math.sqrt(5))
    assert spy.x[:, 4:].mean((1, 2, 3)).tolist() == [3] * 3 + [7] * 3 and spy.frames == 3 and spy.more == {}
    assert [part.mean().item() for part in spy.context] == [3, 7] and len(spy.context[0]) == 3
    assert spy.vector.mean(1).tolist() == [3] * 3 + [other] * 3
    assert (spy.vector.stride(0) == 0) == (other == 3), "one row for all frames of both"
    assert spy.c_noise.tolist() == pytest.approx([math.log(2) / 4] * 6) and spy.c_noise.stride(0) == 0


def test_a_vector_of_each_frame_is_not_shared() -> None:
    spy, given = Spy(), Condition(condition(1.0).token, condition(1.0).latent, torch.arange(18.0).reshape(3, 6))
    denoise_with(spy, torch.rand(3, 4, 2, 3), 2.0, (given, given))
    assert torch.equal(spy.vector, given.vector.repeat(2, 1))


def test_a_sigma_of_each_frame_is_repeated_for_every_condition() -> None:
    spy, x = Spy(), torch.rand(2, 4, 2, 3)
    estimate = denoise_with(spy, x, torch.tensor([1.0, 2.0]), [condition(1.0), condition(2.0)])
    assert spy.c_noise.tolist() == pytest.approx([0, math.log(2) / 4] * 2)
    # At sigma 1 the factors are -1 / 2 and 1 / 2.
    torch.testing.assert_close(estimate, torch.stack([0 * x[0], -0.2 * x[1]]).expand(2, -1, -1, -1, -1))
    for wrong in (torch.ones(3), torch.ones(0)):
        with pytest.raises(ValueError, match=rf"got {len(wrong)} for 2 frames\); give one or 2"):
            denoise_with(spy, x, wrong, condition(1.0))


def test_regions_and_features_reach_the_network() -> None:
    spy, x = Spy(), torch.rand(2, 4, 2, 3)
    region = Region(torch.full((1, 6), 9.0), torch.full((1, 1, 2, 3), 0.25))
    denoise_with(spy, x, 2.0, (condition(1.0), condition(2.0, region=region)), features="features")
    vector, share = spy.more["region"]
    assert vector.mean(1).tolist() == [1, 1, 9, 9] and share.mean((1, 2, 3)).tolist() == [0, 0, 0.25, 0.25]
    assert share.shape == (4, 1, 2, 3) and spy.more["features"] == "features"


@pytest.mark.parametrize("name", ["token", "latent", "vector"])
@pytest.mark.parametrize(("frames", "value", "words"), [(3, 1.0, None), (1, 1.0, None), (2, 1.0, "got 2"),
                                                        (3, math.nan, "NaN"), (3, math.inf, "NaN")])  # fmt: skip
def test_every_part_of_a_condition_is_checked_before_the_first_step(name, frames, value, words) -> None:
    parts = {part: getattr(condition(1.0), part) for part in ("token", "latent", "vector")}
    parts[name] = getattr(condition(value, frames), name)

    def clip():
        return sample(lambda x, sigma, given: x, torch.ones(3, 4, 2, 3), [2.0, 0.0], 1.0, SimpleNamespace(**parts))

    if words is None:
        assert clip().shape == (3, 4, 2, 3)
    else:
        with pytest.raises(ValueError, match=rf"condition's {name} .*{words}"):
            clip()


@pytest.mark.parametrize(("frames", "taken"), [(1, True), (3, True), (2, False), (4, False)])
def test_a_start_latent_has_one_frame_or_all(frames: int, taken: bool) -> None:
    given = {"latent": torch.ones(frames, 4, 2, 2)}
    if taken:
        clip = sample(lambda x, sigma, given: x, torch.ones(3, 4, 2, 2), [2.0, 0.0], 1.0, None, **given)
        assert torch.equal(clip, torch.full((3, 4, 2, 2), 3.0))
    else:
        with pytest.raises(ValueError, match=rf"got \[{frames}, 4, 2, 2\]"):
            sample(lambda x, sigma, given: x, torch.ones(3, 4, 2, 2), [2.0, 0.0], 1.0, None, **given)


@pytest.mark.parametrize("noise", [torch.tensor(1.0), torch.zeros(0, 4, 2, 2)])
def test_noise_has_at_least_one_frame(noise: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="at least 1 frame"):
        sample(lambda x, sigma, given: x, noise, [2.0, 0.0], 1.0, None)
