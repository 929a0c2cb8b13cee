"""Sampling against the numbers of the specification (tests/data/vectors.json)."""

import json
import math
from pathlib import Path

import pytest
import torch

from svd_core.condition import Condition
from svd_core.sampling.denoiser import scalings
from svd_core.sampling.guidance import linear_guidance, trapezoid_guidance, triangle_guidance
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import ALIGN_YOUR_STEPS, align_your_steps_sigmas, karras_sigmas, lcm_sigmas

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text())


@pytest.mark.parametrize("steps", [25, 30, 50])
def test_karras_sigmas_match_the_specification(steps):
    expected = torch.tensor(VECTORS["sigmas"][str(steps)], dtype=torch.float64)
    got = karras_sigmas(steps)
    assert got.dtype == torch.float32 and got.shape == (steps + 1,)
    # One rounding to float32 is 6e-8 relative; the vectors themselves have 9 digits.
    torch.testing.assert_close(got.double(), expected, rtol=1e-7, atol=0)


def test_karras_sigmas_start_at_exactly_700():
    assert karras_sigmas(25)[0].item() == 700.0


@pytest.mark.parametrize("row", VECTORS["scalings_25"], ids=lambda row: f"{row['sigma']:g}")
def test_scalings_match_the_specification(row):
    got = dict(zip(("c_skip", "c_out", "c_in", "c_noise"), scalings(row["sigma"]), strict=True))
    for name, value in got.items():
        # 9 printed digits, and c_skip falls twice as fast as sigma (also printed with 9).
        assert value.item() == pytest.approx(row[name], rel=1e-8), name


def test_first_state_is_noise_times_the_initial_scale():
    noise = torch.full((1, 4, 1, 1), 1.0, dtype=torch.float64)
    seen = []
    sample(lambda x, sigma, _: seen.append(x) or x, noise, karras_sigmas(1), 1.0, None)
    assert seen[0].flatten()[0].item() == pytest.approx(VECTORS["initial_noise_scale"], rel=1e-12)


@pytest.mark.parametrize("steps", ["1", "2", "4", "6", "8"])
def test_lcm_sigmas_match_animatelcm(steps):
    expected = torch.tensor(VECTORS["animatelcm_sigmas"][steps], dtype=torch.float64)
    torch.testing.assert_close(lcm_sigmas(int(steps)).double(), expected, rtol=1e-7, atol=0)


def test_align_your_steps_has_the_published_nodes_and_ends_at_zero():
    nodes = VECTORS["align_your_steps_11_nodes"]
    assert list(ALIGN_YOUR_STEPS) == nodes
    expected = torch.tensor([*nodes[:-1], 0.0], dtype=torch.float64)
    torch.testing.assert_close(align_your_steps_sigmas(10).double(), expected, rtol=1e-7, atol=0)


def test_align_your_steps_interpolates_in_log_sigma():
    sigmas = align_your_steps_sigmas(20)
    nodes = VECTORS["align_your_steps_11_nodes"]
    torch.testing.assert_close(sigmas[::2][:-1], torch.tensor(nodes[:-1]), rtol=1e-6, atol=0)
    assert sigmas[1].item() == pytest.approx(math.sqrt(nodes[0] * nodes[1]), rel=1e-6)
    assert sigmas[-1] == 0


GUIDANCE = [
    ("linear_svd_14_1.0_2.5", linear_guidance, (1.0, 2.5, 14)),
    ("linear_xt_25_1.5_3.0", linear_guidance, (1.5, 3.0, 25)),
    ("triangle_sv3d_21_1.0_2.5", triangle_guidance, (1.0, 2.5, 21)),
    ("triangle_20_1.0_2.5", triangle_guidance, (1.0, 2.5, 20)),
]


@pytest.mark.parametrize(("name", "curve", "arguments"), GUIDANCE, ids=[g[0] for g in GUIDANCE])
def test_guidance_curves_match_the_official_guiders(name, curve, arguments):
    # The vectors were computed in float32 and print 7 digits, with one unit of noise in the last.
    torch.testing.assert_close(curve(*arguments), torch.tensor(VECTORS["guidance"][name]), rtol=0, atol=1.5e-6)


def test_trapezoid_has_the_official_ramp_but_a_plateau_at_max():
    official = VECTORS["guidance"]["trapezoid_as_coded_21_1.0_2.5"]
    got = trapezoid_guidance(1.0, 2.5, 21).tolist()
    assert got[:2] == official[:2] and got[-2:] == official[-2:]
    assert got[2:-2] == [2.5] * 17


def toy_denoise(x, sigma, condition):
    """The closed-form network of the vectors; the token says whether the row is conditional (1) or not (0)."""
    m = condition.token.mean().item()
    c_skip, c_out, c_in, c_noise = (c.item() for c in scalings(sigma))
    return c_out * (torch.tanh(c_in * x + 0.1 * m * c_noise) + 0.05 * m) + c_skip * x


# In float64 only the float32 rounding of sigmas and scales remains (6e-8 relative). In float32 the state rounds too:
# half a unit in the last place of 700 is 3e-5, which later steps shrink with sigma, down to some 1e-7 at the end.
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", VECTORS["toy_sampler"]["cases"])
def test_toy_clip_matches_through_the_whole_loop(case, dtype):
    steps, scale = (part.split("=")[1] for part in case.split(","))
    low, high = map(float, scale.split(".."))
    noise = torch.tensor(VECTORS["toy_sampler"]["noise"], dtype=dtype).reshape(4, 1, 1, 1)
    condition = Condition(torch.ones(1, 1, 1), torch.zeros(1, 4, 1, 1), torch.zeros(1, 768))
    got = sample(toy_denoise, noise, karras_sigmas(int(steps)), linear_guidance(low, high, 4), condition)
    assert got.dtype == dtype
    expected = torch.tensor(VECTORS["toy_sampler"]["cases"][case], dtype=torch.float64)
    torch.testing.assert_close(got.double().flatten(), expected, rtol=0, atol=1e-6)
