"""What holds for every adapter alike: strength 0, streamed weights, reused features."""

from collections.abc import Callable

import pytest
import torch

from svd_core.condition import DeepFeatures
from svd_core.model.weight_stream import WeightStream
from svd_core.sampling.controls import Control
from svd_core.sampling.reuse import ReuseFeatures
from svd_core.sampling.sampler import sample
from tests.helpers.adapters import ADAPTERS, passes
from tests.helpers.tiny_unets import FRAMES, SIDE, condition_for, random, tiny_model


@pytest.fixture(params=ADAPTERS)
def make(request) -> Callable[[float], Control]:
    torch.manual_seed(1)
    return ADAPTERS[request.param]


def clip(model, *controls):
    noise = random(FRAMES, 4, SIDE, SIDE, seed=3)
    return sample(model.denoise, noise, [50.0, 5.0, 0.0], 2.0, condition_for(model), controls=controls)


def test_strength_0_leaves_the_clip_bit_equal(make):
    model = tiny_model()
    plain = clip(model)
    assert torch.equal(clip(model, make(0.0)), plain)
    assert not torch.allclose(clip(model, make(1.0)), plain, atol=1e-3)


def test_streamed_weights_give_the_same_pass(make):
    unet, adapter = tiny_model().unet, make(1.0).adapter
    before = passes(unet, adapter)
    stream = WeightStream(unet, "cpu")
    after = passes(unet, adapter)
    stream.close()
    assert torch.equal(after, before)


def test_reused_features_keep_the_adapter_in_the_outer_blocks(make):
    model, control = tiny_model(), make(1.0)
    features = DeepFeatures(1)
    whole = passes(model.unet, control.adapter, features)
    # The inner features are those of this very pass, so only the outer blocks could differ, and they run alike.
    assert torch.allclose(passes(model.unet, control.adapter, features), whole, atol=1e-5)
    reused = clip(model, control, ReuseFeatures(2, 1))
    assert reused.isfinite().all() and not torch.equal(reused, clip(model, ReuseFeatures(2, 1)))
