"""Sigma lists and guidance curves: shapes, ends, single frames, partial denoise, errors."""

import math

import pytest
import torch

from svd_core.sampling.guidance import (
    GUIDANCE_SHAPES,
    Guidance,
    cosine_guidance,
    custom_guidance,
    guidance_curve,
    linear_guidance,
    trapezoid_guidance,
)
from svd_core.sampling.noise import start_noise
from svd_core.sampling.schedules import SCHEDULES, custom_sigmas, exponential_sigmas, karras_sigmas, make_sigmas


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_every_schedule_falls_from_sigma_max_to_zero(kind, steps):
    sigmas = make_sigmas(kind, steps)
    assert sigmas.dtype == torch.float32 and sigmas.shape == (steps + 1,)
    assert sigmas[0] == 700 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_every_schedule_takes_another_range(kind):
    sigmas = make_sigmas(kind, 8, sigma_min=0.01, sigma_max=100.0)
    assert sigmas[0].item() == pytest.approx(100.0) and sigmas[-2].item() >= 0.01 * 0.999


def test_exponential_is_even_in_log_sigma():
    logs = exponential_sigmas(9)[:-1].double().log()
    torch.testing.assert_close(logs.diff(), torch.full((8,), math.log(0.002 / 700) / 8, dtype=torch.float64))


@pytest.mark.parametrize(("steps", "denoise", "longer"), [(10, 0.5, 20), (10, 0.35, 28), (25, 1.0, 25), (4, 0.4, 10)])
def test_partial_denoise_is_the_end_of_a_longer_schedule(steps, denoise, longer):
    assert torch.equal(make_sigmas("karras", steps, denoise=denoise), karras_sigmas(longer)[-(steps + 1) :])


def test_custom_sigmas_keep_their_values():
    assert custom_sigmas([700, 14.5, 0]).tolist() == [700.0, 14.5, 0.0]
    assert custom_sigmas(torch.tensor([5.0, 1.0], dtype=torch.float16)).dtype == torch.float32


BAD_SCHEDULES = [
    (lambda: karras_sigmas(0), "(got 0); use 20 to 30"),
    (lambda: karras_sigmas(-3), "(got -3); use 20 to 30"),
    (lambda: karras_sigmas(2.5), "(got 2.5); use 20 to 30"),
    (lambda: karras_sigmas(5, 10.0, 1.0), "(got 1 and 10); use 700"),
    (lambda: karras_sigmas(5, 0.0), "(got 700 and 0); use 700"),
    (lambda: karras_sigmas(5, rho=0.0), "(got 0); use 7"),
    (lambda: make_sigmas("lcm", 41), "1 to 40 steps (got 41); use"),
    (lambda: make_sigmas("beta", 4), "schedule 'beta' is unknown; use one of karras"),
    (lambda: make_sigmas("karras", 4, denoise=0.0), "(got 0); use 1"),
    (lambda: make_sigmas("karras", 4, denoise=1.5), "(got 1.5); use 1"),
    (lambda: custom_sigmas([]), "one step at least (got shape"),
    (lambda: custom_sigmas([[2.0, 1.0]]), "one step at least (got shape"),
    (lambda: linear_guidance(1.0, 2.5, 0), "(got 0); use 14"),
    (lambda: guidance_curve("sawtooth", 1.0, 2.0, 5), "shape 'sawtooth' is unknown; use one of linear"),
    (lambda: custom_guidance([], 5), "(got 0); use a scale"),
    (lambda: custom_guidance([(0.5, 1.0), (0.2, 2.0)], 5), "point 1"),
    (lambda: Guidance(torch.ones(1), 5.0, 1.0), "(got 5 to 1); swap the two"),
    (lambda: start_noise(0, 4, 4, 1), "(got 0); use 14"),
    (lambda: start_noise(1, 4, 4, -1), "(got -1); use any"),
]


@pytest.mark.parametrize(("make", "message"), BAD_SCHEDULES, ids=[b[1] for b in BAD_SCHEDULES])
def test_bad_values_are_refused_with_a_remedy(make, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert message in str(caught.value) and "; " in str(caught.value)


CURVES = [
    ("constant", 5, [3.0, 3.0, 3.0, 3.0, 3.0]),
    ("linear", 5, [1.0, 1.5, 2.0, 2.5, 3.0]),
    ("triangle", 5, [1.0, 2.0, 3.0, 2.0, 1.0]),
    ("cosine", 3, [1.0, 2.0, 3.0]),
    ("trapezoid", 5, [3.0] * 5),
    ("trapezoid", 12, [1.0, *[3.0] * 10, 1.0]),
    ("constant", 1, [3.0]),
    ("linear", 1, [1.0]),
    ("triangle", 1, [1.0]),
    ("cosine", 1, [1.0]),
    ("trapezoid", 1, [3.0]),
]


@pytest.mark.parametrize(("shape", "frames", "values"), CURVES)
def test_guidance_curves(shape, frames, values):
    torch.testing.assert_close(guidance_curve(shape, 1.0, 3.0, frames), torch.tensor(values))


def test_every_guidance_shape_is_tested_above():
    assert {shape for shape, _, _ in CURVES} == set(GUIDANCE_SHAPES)


def test_cosine_starts_and_ends_slowly():
    steps = cosine_guidance(0.0, 1.0, 9).diff()
    assert (steps > 0).all() and steps[0] < steps[3] and steps[-1] < steps[4]


@pytest.mark.parametrize(
    ("points", "frames", "values"),
    [
        ([1.0, 3.0, 2.0], 5, [1.0, 2.0, 3.0, 2.5, 2.0]),
        ([2.0], 3, [2.0, 2.0, 2.0]),
        ([(0.0, 1.0), (0.25, 3.0)], 5, [1.0, 3.0, 3.0, 3.0, 3.0]),
        ([(0.5, 4.0), (1.0, 2.0)], 5, [4.0, 4.0, 4.0, 3.0, 2.0]),
        ([1.0, 3.0], 1, [1.0]),
    ],
)
def test_custom_curve_is_linear_between_its_points(points, frames, values):
    torch.testing.assert_close(custom_guidance(points, frames), torch.tensor(values))


@pytest.mark.parametrize("frames", [1, 9, 10, 25, 30])
def test_trapezoid_is_symmetric(frames):
    curve = trapezoid_guidance(1.0, 2.5, frames)
    assert len(curve) == frames and torch.equal(curve, curve.flip(0))
