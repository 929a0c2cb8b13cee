"""AnimateLCM-SVD: its file, its defaults, and its sampling against the formulas of spec section 11.2."""

import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import svd_core
from svd_core.checkpoints import load_model
from svd_core.networks.config import SVDConfig
from svd_core.pipelines.settings import AnimateSettings, sigmas_of
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.noise import start_noise
from svd_core.sampling.schedules import lcm_sigmas
from tests.helpers.checkpoint_files import TINY, folder_tensors, tiny_tensors
from tests.helpers.motion_models import condition
from tests.helpers.nodes_pack import part

SHAPE = (3, 6, 10)


def network(noisy, c_noise, token, vector, num_frames):
    """A raw network whose output depends on every input."""
    wave = torch.sin(noisy[:, :4] * 1.7 + noisy[:, 4:] + c_noise.reshape(-1, 1, 1, 1) + token.mean())
    return wave + 0.3 * noisy[:, :4]


def model(x, sigma, given):
    return denoise_with(network, x, sigma, given)


def author(noise, steps, given, seed):
    """The author's loop, written from the formulas: no clipping, c_skip and c_out of v-prediction."""
    low, high = 0.002 ** (1 / 7), 700 ** (1 / 7)
    points = [(high + i / 39 * (low - high)) ** 7 for i in range(40)]
    sigmas = [points[i * (40 // steps)] for i in range(steps)] + [0.0]
    generator = torch.Generator().manual_seed(seed)
    torch.randn(noise.shape, generator=generator)  # the start noise
    x = noise * math.sqrt(700**2 + 1)
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        row = given.over_frames(len(x))
        entering = torch.cat([x / math.sqrt(sigma**2 + 1), row.latent], 1)
        c_noise = torch.full((len(x),), math.log(sigma) / 4)
        out = network(entering, c_noise, row.token, row.vector, len(x))
        x = -sigma / math.sqrt(sigma**2 + 1) * out + x / (sigma**2 + 1)
        if following > 0:
            x = x + following * torch.randn(x.shape, generator=generator)
    return x


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 8])
def test_sampling_is_the_authors(steps):
    given = condition(picture=torch.randn(1, 4, *SHAPE[1:], generator=torch.Generator().manual_seed(2)))
    noise = start_noise(*SHAPE, seed=7)
    clip = svd_core.sample(model, noise, lcm_sigmas(steps), 1.0, given, solver="lcm", seed=7)
    # c_skip and c_out are float64 there and Python floats here; the sine spreads the last bits of states up to 3000.
    torch.testing.assert_close(clip, author(noise, steps, given, 7), rtol=1e-3, atol=2e-3)


def test_the_noise_of_the_seed_decides_on_the_clip_and_nothing_else():
    given, noise = condition(picture=torch.zeros(1, 4, *SHAPE[1:])), start_noise(*SHAPE, seed=7)
    clips = [svd_core.sample(model, noise, lcm_sigmas(4), 1.0, given, solver="lcm", seed=s) for s in (7, 7, 8)]
    assert torch.equal(clips[0], clips[1]) and not torch.allclose(clips[0], clips[2], atol=0.1)


def test_one_step_needs_no_noise_and_no_guidance_needs_no_second_pass():
    passes = []

    def counted(x, sigma, given):
        passes.append(sigma)
        return model(x, sigma, given)

    given, noise = condition(picture=torch.zeros(1, 4, *SHAPE[1:])), start_noise(*SHAPE, seed=7)
    clips = [svd_core.sample(counted, noise, lcm_sigmas(1), 1.0, given, solver="lcm", seed=s) for s in (7, 8)]
    assert torch.equal(*clips) and passes == [700.0, 700.0]


def test_the_variant_brings_schedule_solver_steps_and_guidance():
    config = SVDConfig(variant="animatelcm", frames=25)
    got = AnimateSettings().resolve(config)
    assert (got.schedule, got.solver, got.steps, got.frames) == ("lcm", "lcm", 4, 25)
    assert (got.min_guidance, got.max_guidance) == (1.0, 1.2)
    assert sigmas_of(got).tolist() == pytest.approx([700.0, 128.564, 13.6784, 0.496878, 0.0], rel=1e-5)
    assert AnimateSettings(steps=8).resolve(config).steps == 8
    chosen = AnimateSettings(schedule="karras", solver="euler", steps=25).resolve(config)
    assert (chosen.schedule, chosen.solver) == ("karras", "euler")
    assert AnimateSettings().resolve(SVDConfig(variant="svd_xt", frames=25)).schedule == "karras"


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lcm")
    save_file(folder_tensors(tiny_tensors())["unet"], folder / "AnimateLCM-SVD-xt-1.1.safetensors", metadata=TINY)
    save_file(dict(tiny_tensors()), folder / "svd_xt.safetensors", metadata=TINY)
    return load_model(folder / "AnimateLCM-SVD-xt-1.1.safetensors", complete_from=folder / "svd_xt.safetensors")


def test_a_completed_file_animates_in_its_four_steps(completed):
    assert completed.variant == "animatelcm"
    steps = []
    clip = svd_core.animate(completed, torch.zeros(1, 64, 64, 3), on_step=steps.append)
    assert clip.shape == (4, 64, 64, 3) and len(steps) == 4
    assert [round(step.sigma, 3) for step in steps] == [700.0, 128.564, 13.678, 0.497]


@pytest.mark.parametrize(("variant", "solver", "warned"), [("animatelcm", "euler", 1), ("animatelcm", "lcm", 0)])
def test_the_sampler_node_says_which_solver_belongs_to_the_model(variant, solver, warned, caplog):
    model = SimpleNamespace(variant=variant, config=SVDConfig(variant=variant))
    part("nodes.sample").sampling_for(model, 4, 0, solver)
    assert len([r for r in caplog.records if "needs the solver lcm" in r.message]) == warned
