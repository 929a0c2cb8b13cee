"""The scale of a model on imposed signals: where it comes from, and that every mode and cost goes by it."""

import pytest
import torch

import svd_core as svd
from svd_core.checkpoints.detect import read_hints
from svd_core.checkpoints.source import CheckpointError
from svd_core.controls.signal import SIGNAL_MODES, DualClock, PartialRenoise, ReplaceEstimate, Signal, imposes_motion
from svd_core.networks.config import UNetConfig
from svd_core.networks.variants import CONTROL_SCALE
from svd_core.pipelines.settings import BUCKET, STEERED_BUCKET, AnimateSettings
from svd_core.plan.control_costs import control_cost
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from tests.helpers.motion_models import FRAMES, Counted, H, W, condition, still

SIGNAL = Signal(still().roll(3, -1).expand(FRAMES, -1, -1, -1).clone(), torch.ones(FRAMES, 1, H, W))


def levels(control, scale):
    """The noise levels at which the model is asked."""
    model = Counted()
    noise = torch.randn(FRAMES, 4, H, W, generator=torch.Generator().manual_seed(1))
    clip = sample(model, noise, karras_sigmas(20), 1.0, condition(), controls=[control], control_scale=scale)
    return clip, model.sigmas


@pytest.mark.parametrize("mode", SIGNAL_MODES)
def test_a_smaller_scale_follows_the_signal_to_lower_noise(mode):
    gaps = [(levels(SIGNAL_MODES[mode](SIGNAL), scale)[0] - SIGNAL.latents).abs().mean() for scale in (1.0, 1 / 240)]
    assert gaps[1] < 0.5 * gaps[0]


def test_the_start_is_the_scaled_sigma():
    for scale in (1.0, 1 / 240):
        start = levels(PartialRenoise(SIGNAL), scale)[1][0]
        assert start == pytest.approx(30 * (H * W) ** 0.5 / 96 * scale)


def test_costs_go_by_the_scale():
    costs = [
        control_cost(PartialRenoise(SIGNAL), UNetConfig(), FRAMES, H, W, karras_sigmas(20), control_scale=scale)
        for scale in (1.0, 1 / 240)
    ]
    assert costs[1].passes < costs[0].passes < 20


def test_the_scale_is_that_of_the_variant_or_of_the_file():
    assert CONTROL_SCALE["nano"] == 1 / 240 and "svd" not in CONTROL_SCALE
    assert svd.load_model("nano").config.control_scale == 1 / 240
    assert read_hints({"svd.control_scale": "0.25"}).control_scale == 0.25 and read_hints({}).control_scale is None
    for text in ("0", "nan", "much", "11"):
        with pytest.raises(CheckpointError, match=rf"'{text}'; it must be a number from 0.001 to 10"):
            read_hints({"svd.control_scale": text})


@pytest.mark.parametrize(
    ("settings", "steered", "bucket"),
    [
        ({}, False, BUCKET),
        ({}, True, STEERED_BUCKET),
        ({"camera": "pan left"}, False, STEERED_BUCKET),
        ({"camera": "pan left", "camera_strength": 0.0}, False, BUCKET),
        ({"camera": "pan left", "motion_bucket": 90}, True, 90),
    ],
)
def test_the_bucket_that_follows_best_is_the_default_of_steered_clips(settings, steered, bucket):
    given = AnimateSettings(**settings).resolve(svd.load_model("nano").config, steered=steered)
    assert given.motion_bucket == bucket


def test_only_active_signals_impose_motion():
    assert imposes_motion([DualClock(SIGNAL)]) and not imposes_motion([ReplaceEstimate(SIGNAL, 0.0)])
