"""The parts of a training step: noise levels, loss, dropped conditions, rates, optimisers, settings."""

import math
import sys

import pytest
import torch
from torch import nn

from svd_core.training import TrainingSample, TrainSettings
from svd_core.training.data.samples import stack_samples
from svd_core.training.loss import draw_sigmas, drop_conditions, velocity_losses
from svd_core.training.network import default_precision
from svd_core.training.optimizers import LossScale, learning_rate, make_optimizers, orthogonalise, set_rate
from tests.helpers.training_runs import NoiseClips, settings


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(count=2):
    return stack_samples([NoiseClips().sample(index, generator(index)) for index in range(count)])


def test_noise_levels_are_log_normal_with_a_log_uniform_share_and_keep_below_a_limit():
    count = 20_000
    usual = draw_sigmas(count, generator(), wide_share=0.0).log()
    # The error of a mean of 20,000 numbers of deviation 1.6 is 0.011.
    assert abs(usual.mean() - 0.7) < 0.05 and abs(usual.std() - 1.6) < 0.05
    wide = draw_sigmas(count, generator(), wide_share=1.0).log()
    assert abs(wide.mean() - (math.log(0.002) + math.log(700)) / 2) < 0.1
    limit = torch.full((count,), 3.0)
    for share in (0.0, 1.0):
        low = draw_sigmas(count, generator(), wide_share=share, limit=limit)
        assert low.min() >= 0.002 and low.max() <= 3.0 and (low > 2.9).double().mean() < 0.1


@pytest.mark.parametrize("sigma", [0.01, 0.7, 30.0, 700.0])
def test_the_loss_is_the_weighted_error_of_the_denoised_estimate(sigma):
    batch, noise = clips(), torch.randn(2, 2, 4, 4, 4, generator=generator(5))
    batch = type(batch)(batch.latent.double(), batch.concat.double(), batch.token, batch.vector)
    noise = noise.double()

    def network(entry, c_noise, token, vector, num_frames):
        assert entry.shape == (4, 8, 4, 4) and token.shape == (4, 1, 8) and num_frames == 2
        assert torch.allclose(c_noise, torch.full((4,), math.log(sigma) / 4, dtype=c_noise.dtype))
        return (entry[:, :4] - 0.3 * entry[:, 4:]).float().double()

    losses = velocity_losses(network, batch, torch.full((2,), sigma, dtype=torch.float64), noise, torch.float64)
    root = math.sqrt(sigma**2 + 1)
    x = batch.latent + sigma * noise
    out = x / root - 0.3 * batch.concat[:, None]
    denoised = -sigma / root * out + x / (sigma**2 + 1)
    expected = (sigma**2 + 1) / sigma**2 * (denoised - batch.latent).square().mean((1, 2, 3, 4))
    # The network's answer passes float32; at sigma 0.01 the reference form divides its rounding by sigma squared.
    assert torch.allclose(losses.double(), expected, rtol=1e-4)


def test_the_loss_weighs_what_is_wrong_with_the_mean_of_a_frame():
    batch, sigma = clips(), torch.full((2,), 0.7, dtype=torch.float64)
    noise = torch.randn(batch.latent.shape, generator=generator(5))
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)

    def losses(wrong, mean_weight):
        def network(entry, *rows, num_frames):
            root = math.sqrt(0.7**2 + 1)
            velocity = (noise - 0.7 * batch.latent) / root
            return velocity.flatten(0, 1) + wrong

        return velocity_losses(network, batch, sigma, noise, torch.float32, mean_weight)

    # A checkerboard has no mean, a shade is nothing but mean: 0.2 squared is 0.04, and 50 times that on top.
    for wrong, weight, expected in ((0.2 * pattern, 50.0, 0.04), (0.2, 0.0, 0.04), (0.2, 50.0, 2.04)):
        assert torch.allclose(losses(wrong, weight), torch.full((2,), expected), rtol=1e-4)


def test_conditions_are_dropped_separately_and_together_in_their_shares():
    count = 4000
    one = clips(1)
    batch = type(one)(*(getattr(one, part).expand(count, *[-1] * (getattr(one, part).ndim - 1)) for part in PARTS))
    shares = {"drop_token": 0.1, "drop_latent": 0.2, "drop_both": 0.3}
    dropped = drop_conditions(batch, settings(**shares), generator())
    token, latent = dropped.token.abs().sum(1) == 0, dropped.concat.abs().sum((1, 2, 3)) == 0
    found = {"drop_token": token & ~latent, "drop_latent": latent & ~token, "drop_both": token & latent}
    for name, share in shares.items():
        assert abs(found[name].double().mean() - share) < 0.03  # four deviations of a share of 4000
    assert torch.equal(dropped.latent, batch.latent) and torch.equal(dropped.vector, batch.vector)


PARTS = ("latent", "concat", "token", "vector")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 0.1, 9: 1.0, 99: 1.0}),
        ("cosine", {0: 0.1, 9: 1.0, 55: 0.5, 99: 0.0003}),
        ("linear-cooldown", {0: 0.1, 59: 1.0, 80: 0.5, 99: 0.025}),
    ],
)
def test_the_rate_rises_and_falls_as_the_schedule_says(schedule, expected):
    chosen = TrainSettings(steps=100, warmup=10, rate=2.0, schedule=schedule)
    for step, share in expected.items():
        assert learning_rate(step, chosen) == pytest.approx(2.0 * share, rel=0.05)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_rate_of_single_parameters_can_be_scaled(name):
    parameters = {key: nn.Parameter(torch.ones(4, 4)) for key in ("slow", "fast")}
    optimizers = make_optimizers(parameters, settings(optimizer=name), lambda key: 0.1 if key == "slow" else 1.0)
    set_rate(optimizers, 1e-3)
    target = torch.randn(4, 4, generator=generator())
    sum((parameter * target).sum() for parameter in parameters.values()).backward()
    for optimizer in optimizers:
        optimizer.step()
    slow, fast = (float((parameter.detach() - 1).norm()) for parameter in parameters.values())
    assert slow == pytest.approx(0.1 * fast, rel=0.02)


def test_orthogonal_steps_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 8, 20, generator=generator())))
    assert values.min() > 0.6 and values.max() < 1.3  # the iteration's own range
    assert not orthogonalise(torch.zeros(1, 3, 3)).any()


def test_eight_bit_adamw_is_refused_where_its_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match="needs the package bitsandbytes .* install it, or use adamw"):
        make_optimizers({"a": nn.Parameter(torch.ones(2, 2))}, settings(optimizer="adamw8bit"))


def test_eight_bit_adamw_keeps_bytes_and_steps_like_adamw():
    pytest.importorskip("bitsandbytes", reason="the 8-bit optimizer needs bitsandbytes")
    start = torch.randn(96, 96, generator=generator())  # smaller tensors keep 32 bits
    stepped = {}
    for name in ("adamw", "adamw8bit"):
        parameter = nn.Parameter(start.clone())
        (optimizer,) = make_optimizers({"a": parameter}, settings(optimizer=name, rate=1e-2))
        for _ in range(5):
            optimizer.zero_grad()
            (parameter - 1).square().sum().backward()
            optimizer.step()
        stepped[name] = parameter.detach() - start
    assert optimizer.state[parameter]["state1"].dtype == optimizer.state[parameter]["state2"].dtype == torch.uint8
    # Dynamic 8-bit codes are a few per cent apart, and so are the steps.
    difference = (stepped["adamw8bit"] - stepped["adamw"]).norm() / stepped["adamw"].norm()
    assert difference < 0.1


def test_the_loss_scale_falls_on_overflow_and_gives_up_in_the_end():
    scale = LossScale(scale=1.0)
    assert not scale.accept(False) and scale.scale == 0.5 and scale.accept(True)
    with pytest.raises(FloatingPointError, match="use bf16"):
        for _ in range(20):
            scale.accept(False)


def test_samples_of_two_shapes_make_no_batch():
    sample = NoiseClips().sample(0, generator())
    longer = TrainingSample(sample.latent.repeat(2, 1, 1, 1), sample.concat, sample.token, sample.vector, 3.0)
    with pytest.raises(ValueError, match="one shape .got 2.*use batch 1"):
        stack_samples([sample, longer])
    assert stack_samples([longer, longer]).sigma_limit.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": "heads"}, "targets must be one of temporal.*'heads'"),
        ({"steps": 0}, "steps must be 1 or more .got 0.; use 800"),
        ({"drop_token": 2.0}, "drop_token must be 0 to 1 .got 2.; use 0.05"),
        (
            {"drop_token": 0.5, "drop_latent": 0.5, "drop_both": 0.5},
            "sum to 1 or less .got 1.5.; use 0.05",
        ),
        ({"rate": 0.0}, "rate must be above 0 .got 0.; use 0.0001"),
        ({"ema": 1.0}, "ema .*below 1 .got 1.; use 0.999"),
        ({"clip_norm": -1.0}, "clip_norm .*got -1.; use 1"),
        ({"alpha": 0.0}, "alpha .*got 0.; use the rank, 2"),
        ({"p_std": 0.0}, "p_std .*got 0.; use 1.6"),
        ({"mean_weight": -1.0}, "mean_weight .*got -1.; use 0"),
        ({"weight_decay": float("inf")}, "weight_decay must be a finite number .got inf."),
        ({"p_mean": -1e9}, "p_mean must be -6.2 to 6.6.*use 0.7"),
        ({"validate_every": -1}, "validate_every must be 0 or more .got -1."),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        settings(**change)


@pytest.mark.parametrize(
    ("device", "capability", "hip", "precision"),
    [
        ("cpu", None, None, "float32"),
        ("mps", None, None, "float32"),
        ("xpu", None, None, "bf16"),
        ("cuda", (7, 5), None, "fp16"),  # RTX 20, T4: no bf16 units
        ("cuda", (8, 0), None, "bf16"),
        ("cuda", (7, 5), "6.4", "bf16"),  # AMD counts its cards in another way
    ],
)
def test_training_computes_in_the_precision_that_a_device_has(monkeypatch, device, capability, hip, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert default_precision(torch.device(device)) == precision
