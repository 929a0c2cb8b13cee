"""Solvers, guidance and the sampling loop on models whose answer is known in closed form."""

import math

import pytest
import torch

from svd_core.condition import Condition
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.guidance import Guidance, linear_guidance
from svd_core.sampling.noise import NoiseStream, start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import exponential_sigmas, karras_sigmas, lcm_sigmas
from svd_core.sampling.solvers import SOLVERS, Churn

MEAN, STD = 0.7, 0.5


def gaussian(x, sigma, condition=None):
    """The perfect denoiser of data that is normal with MEAN and STD: its ODE has an exact solution."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def exact(noise, sigmas):
    start, end = sigmas[0].item(), sigmas[-1].item()
    x = noise * math.sqrt(1 + start**2)
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + end**2) / (STD**2 + start**2))


def condition(frames=1, h=4, w=6):
    return Condition(torch.ones(frames, 1, 3), torch.ones(frames, 4, h, w), torch.ones(frames, 6))


class Counting:
    """A denoiser that records which condition and sigma it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, condition):
        kind = "conditional" if condition.token.any() else "unconditional"
        self.calls.append((kind, sigma))
        return gaussian(x, sigma) + (0.3 if kind == "conditional" else 0.0)


def error(solver, steps):
    noise = torch.tensor([1.3, -0.4, 2.0], dtype=torch.float64)
    # Ends above 0: the step to 0 returns the estimate itself and would hide the order.
    sigmas = torch.tensor([10.0 * (0.05 / 10.0) ** (i / steps) for i in range(steps + 1)], dtype=torch.float64)
    got = sample(gaussian, noise, sigmas, 1.0, None, solver=solver)
    return (got - exact(noise, sigmas)).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_solver_converges_with_its_order(solver, order):
    # Twice the steps divide the error by 2^order; a fifth of an order is left for higher terms.
    measured = math.log2(error(solver, 80) / error(solver, 160))
    assert measured == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_dpmpp_2m_beats_euler_at_equal_evaluations(steps):
    assert error("dpmpp_2m", steps) < 0.5 * error("euler", steps)


def test_dpmpp_2m_is_the_published_multistep_formula_on_uneven_steps():
    sigmas = torch.tensor([10.0, 4.0, 3.5, 0.3, 0.1], dtype=torch.float64)
    noise = torch.tensor([1.3, -0.4], dtype=torch.float64)
    times = (-sigmas.log()).tolist()  # lambda of Lu et al. 2022, where alpha is 1
    x, estimates = noise * math.sqrt(101), []
    for i in range(4):
        estimates.append(gaussian(x, sigmas[i].item()))
        h, combined = times[i + 1] - times[i], estimates[i]
        if i:
            r = (times[i] - times[i - 1]) / h
            combined = (1 + 1 / (2 * r)) * estimates[i] - 1 / (2 * r) * estimates[i - 1]
        x = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * combined
    got = sample(gaussian, noise, sigmas, 1.0, None, solver="dpmpp_2m")
    torch.testing.assert_close(got, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 6), ("heun", 11), ("dpmpp_2m", 6), ("lcm", 6)])
def test_evaluations_per_clip(solver, evaluations):
    model = Counting()
    sample(model, torch.randn(2, 4, 4, 6), karras_sigmas(6), 1.0, condition(), solver=solver)
    assert len(model.calls) == evaluations


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_ends_on_the_estimate_of_the_last_sigma(solver):
    steps = []
    got = sample(gaussian, torch.randn(2, 4, 4, 6), karras_sigmas(4), 1.0, None, solver=solver, on_step=steps.append)
    assert torch.equal(got, steps[-1].denoised) and torch.equal(got, steps[-1].x)


def test_on_step_tells_index_sigma_and_may_stop():
    sigmas, seen = karras_sigmas(5), []

    def stop_at_third(step):
        seen.append((step.index, step.steps, step.sigma))
        if step.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(gaussian, torch.randn(1, 4, 2, 2), sigmas, 1.0, None, on_step=stop_at_third)
    assert seen == [(i, 5, sigmas[i].item()) for i in range(3)]


GUIDANCE_CALLS = [
    ("scale 1", 1.0, ["conditional"] * 4),
    ("scales all 1", torch.ones(3), ["conditional"] * 4),
    ("scale 2", 2.0, ["unconditional", "conditional"] * 4),
    ("only the last frame", torch.tensor([1.0, 1.0, 1.5]), ["unconditional", "conditional"] * 4),
    ("scale 0", 0.0, ["unconditional"] * 4),
]


@pytest.mark.parametrize(("guidance", "kinds"), [g[1:] for g in GUIDANCE_CALLS], ids=[g[0] for g in GUIDANCE_CALLS])
def test_passes_that_cannot_matter_are_skipped(guidance, kinds):
    model = Counting()
    sample(model, torch.randn(3, 4, 4, 6), karras_sigmas(4), guidance, condition())
    assert [kind for kind, _ in model.calls] == kinds


def test_guidance_interval_limits_the_unconditional_pass():
    model = Counting()
    sample(model, torch.randn(3, 4, 4, 6), karras_sigmas(10), Guidance(torch.tensor(3.0), 0.5, 50.0), condition())
    guided = [sigma for kind, sigma in model.calls if kind == "unconditional"]
    assert guided == [s for s in karras_sigmas(10).tolist() if 0.5 <= s <= 50.0]
    assert 0 < len(guided) < 10


def test_guidance_is_per_frame_on_the_estimates():
    scale = torch.tensor([0.5, 1.0, 3.0])
    got = sample(Counting(), torch.zeros(3, 4, 4, 6), [2.0, 0.0], scale, condition())
    without = gaussian(torch.zeros(()), 2.0)
    torch.testing.assert_close(got[:, 0, 0, 0], without + 0.3 * scale)


def test_unconditional_can_be_given():
    tokens = []
    sample(
        lambda x, sigma, c: tokens.append(c.token.mean().item()) or x,
        torch.randn(1, 4, 4, 6),
        [1.0, 0.0],
        2.0,
        condition(),
        unconditional=Condition(torch.full((1, 1, 3), 5.0), torch.ones(1, 4, 4, 6), torch.ones(1, 6)),
    )
    assert tokens == [5.0, 1.0]


def test_state_is_float32_whatever_the_model_returns():
    states = []

    def half_model(x, sigma, _):
        states.append(x.dtype)
        return gaussian(x, sigma).half()

    got = sample(half_model, torch.randn(2, 4, 4, 6).half(), karras_sigmas(3), 1.0, None)
    assert set(states) == {torch.float32} and got.dtype == torch.float32


def test_start_latent_begins_at_latent_plus_noise_times_sigma():
    states = []
    noise, latent = torch.randn(3, 4, 2, 2), torch.randn(1, 4, 2, 2)
    sample(lambda x, sigma, _: states.append(x) or x, noise, [5.0, 0.0], 1.0, None, latent=latent)
    torch.testing.assert_close(states[0], latent + 5.0 * noise)


def test_split_sigma_lists_continue_exactly():
    noise, sigmas = torch.randn(2, 4, 4, 6, dtype=torch.float64), karras_sigmas(8)
    whole = sample(gaussian, noise, sigmas, 1.0, None)
    half = sample(gaussian, noise, sigmas[:5], 1.0, None)
    rest = sample(gaussian, torch.zeros_like(noise), sigmas[4:], 1.0, None, latent=half)
    torch.testing.assert_close(rest, whole, rtol=1e-12, atol=1e-12)


def test_churn_keeps_the_variance_of_the_data():
    # With the perfect denoiser any churn ends in the spread of the data: 20000 samples and 200 steps tell it to 1 %.
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(1))
    got = sample(gaussian, noise, karras_sigmas(200), 1.0, None, solver="heun", churn=20.0, seed=7)
    assert got.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert got.std().item() == pytest.approx(STD, rel=0.03)
    assert not torch.equal(got, sample(gaussian, noise, karras_sigmas(200), 1.0, None, solver="heun"))


def test_churn_outside_its_sigmas_changes_nothing():
    noise = torch.randn(2, 4, 2, 2)
    plain = sample(gaussian, noise, karras_sigmas(5), 1.0, None)
    assert torch.equal(plain, sample(gaussian, noise, karras_sigmas(5), 1.0, None, churn=Churn(5.0, sigma_low=1e4)))


def test_lcm_adds_fresh_noise_of_the_next_sigma():
    noise, sigmas, steps = start_noise(2, 3, 4, seed=5), lcm_sigmas(2), []
    sample(gaussian, noise, sigmas, 1.0, None, solver="lcm", seed=5, on_step=steps.append)
    fresh = (steps[0].x - steps[0].denoised) / sigmas[1]
    source = torch.Generator().manual_seed(5)
    first, second = (torch.randn(2, 4, 3, 4, generator=source) for _ in range(2))
    assert torch.equal(first, noise)
    torch.testing.assert_close(fresh, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", ["lcm", "euler"])
def test_same_seed_same_latents_and_other_seed_others(solver):
    def run(seed):
        return sample(gaussian, torch.ones(2, 4, 2, 2), lcm_sigmas(4), 1.0, None, solver=solver, seed=seed, churn=churn)

    churn = 3.0 if solver == "euler" else 0.0
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_start_noise_is_the_hosts():
    torch.manual_seed(42)
    assert torch.equal(start_noise(3, 5, 7, seed=42), torch.randn(3, 4, 5, 7))


def test_noise_stream_never_repeats_the_start_noise():
    start = start_noise(2, 3, 4, seed=9)
    stream = NoiseStream(start, seed=9)
    draws = [stream(), stream()]
    assert not torch.equal(draws[0], start) and not torch.equal(draws[0], draws[1])


def test_single_frame_clips_sample():
    got = sample(Counting(), torch.randn(1, 4, 4, 6), karras_sigmas(3), linear_guidance(1.5, 3.0, 1), condition())
    assert got.shape == (1, 4, 4, 6) and torch.isfinite(got).all()


def network(x, c_noise, context, vector, num_frames):
    """A linear stand-in for the UNet that uses every input; rows are independent."""
    rows = context.mean((1, 2)) + 0.1 * vector.mean(1) + c_noise
    return 0.3 * x[:, :4] - 0.2 * x[:, 4:] + rows.reshape(-1, 1, 1, 1)


def test_per_frame_conditions_and_sigmas_act_on_their_frame_alone():
    x = torch.randn(3, 4, 4, 6)
    many = Condition(torch.randn(3, 2, 5), torch.randn(3, 4, 4, 6), torch.randn(3, 6))
    sigma = torch.tensor([0.5, 3.0, 700.0])
    whole = denoise_with(network, x, sigma, many)
    for t in range(3):
        one = Condition(many.token[t : t + 1], many.latent[t : t + 1], many.vector[t : t + 1])
        torch.testing.assert_close(whole[t : t + 1], denoise_with(network, x[t : t + 1], sigma[t].item(), one))


def test_one_row_conditions_are_repeated_over_frames():
    x, one = torch.randn(3, 4, 4, 6), condition()
    assert torch.equal(denoise_with(network, x, 2.0, one), denoise_with(network, x, 2.0, one.over_frames(3)))


def test_network_computes_in_the_given_dtype_and_the_result_stays_float32():
    seen = {}

    def spy(x, c_noise, context, vector, num_frames):
        seen.update(x=x.dtype, c_noise=c_noise.dtype, frames=num_frames)
        return x[:, :4]

    got = denoise_with(spy, torch.randn(2, 4, 4, 6), 700.0, condition(), dtype=torch.bfloat16)
    assert seen == {"x": torch.bfloat16, "c_noise": torch.float32, "frames": 2} and got.dtype == torch.float32


def run(**changes):
    values = {
        "denoise": Counting(),
        "noise": torch.randn(25, 4, 4, 6),
        "sigmas": karras_sigmas(2),
        "guidance": 1.0,
        "condition": condition(),
    }
    return sample(**(values | changes))


BAD = [
    ("guidance count", {"guidance": torch.ones(14)}, "(got 14); give one scale or 25"),
    ("guidance NaN", {"guidance": float("nan")}, "(got nan); use 1 to 4"),
    ("guidance empty", {"guidance": []}, "(got 0 values); use a scale"),
    (
        "guidance without its other branch",
        {"guidance": 2.0, "condition": None},
        "NoneType cannot give; pass a Condition",
    ),
    ("sigmas rising", {"sigmas": [1.0, 2.0, 0.0]}, "sigma 1 is 2 after 1); sort"),
    ("sigmas repeated", {"sigmas": [1.0, 1.0, 0.0]}, "must decrease"),
    ("sigmas negative", {"sigmas": [1.0, -1.0]}, "(got -1); correct"),
    ("sigmas NaN", {"sigmas": [float("nan"), 0.0]}, "(got nan); correct"),
    ("no step", {"sigmas": [1.0]}, "one step at least (got shape"),
    ("noise NaN", {"noise": torch.full((25, 4, 4, 6), math.nan)}, "noise has NaN"),
    ("zero frames", {"noise": torch.zeros(0, 4, 4, 6)}, "at least 1 frame"),
    (
        "condition of another size",
        {"condition": condition(h=8)},
        "6x4 latents or 48x32 pixels (got 6x8, 48x64 pixels); encode",
    ),
    ("condition of another length", {"condition": condition(frames=14)}, "token needs 1 frame or 25 (got 14); give"),
    ("start latent of another size", {"latent": torch.zeros(25, 4, 4, 4)}, "(got [25, 4, 4, 4]); encode"),
    ("start latent NaN", {"latent": torch.full((1, 4, 4, 6), math.nan)}, "start latent has NaN"),
    ("unknown solver", {"solver": "rk4"}, "solver 'rk4' is unknown; use one of euler, heun"),
    ("churn ignored", {"solver": "lcm", "churn": 1.0}, "takes no churn (got 1); use euler"),
    ("churn negative", {"churn": -1.0}, "(got -1); use 0"),
    ("model gives NaN", {"denoise": lambda x, s, c: x * math.nan}, "step 1 of 2 (sigma 700) gave NaN"),
]


@pytest.mark.parametrize(("changes", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_says_value_limit_and_remedy(changes, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        run(**changes)
    assert message in str(caught.value) and "; " in str(caught.value)


def test_denoising_at_sigma_zero_is_refused():
    with pytest.raises(ValueError, match=r"above 0 \(got 0\); denoise"):
        denoise_with(network, torch.randn(1, 4, 4, 6), 0.0, condition())


def test_exponential_list_samples_to_the_end():
    assert torch.isfinite(run(sigmas=exponential_sigmas(3))).all()


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_seeds_of_64_bits_are_taken(seed):
    assert torch.equal(start_noise(1, 2, 2, seed), start_noise(1, 2, 2, seed))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_beyond_64_bits_are_refused(seed):
    with pytest.raises(ValueError, match=rf"2\^64 - 1 \(got {seed}\); use"):
        start_noise(1, 2, 2, seed)


def test_the_denoiser_names_both_sizes_where_they_differ():
    with pytest.raises(ValueError, match=r"6x4 latents or 48x32 pixels \(got 6x8, 48x64 pixels\); encode"):
        denoise_with(network, torch.randn(1, 4, 4, 6), 2.0, condition(h=8))
