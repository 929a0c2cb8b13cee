"""What holds for every adapter alike: strength 0, streamed weights, reused features."""

from collections.abc import Callable

import pytest
import torch

from svd_core.condition import DeepFeatures
from svd_core.controls.windows import Windows
from svd_core.model.guidance_passes import set_guidance_mode
from svd_core.model.model import SVDModel
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


def clip(model, *controls, **more):
    noise = random(FRAMES, 4, SIDE, SIDE, seed=3)
    return sample(model.denoise, noise, [50.0, 5.0, 0.0], 2.0, condition_for(model), controls=controls, **more)


def with_model(change: Callable[[SVDModel], object], *controls: Control, **more) -> Callable[..., torch.Tensor]:
    """Return how a clip is made of a changed model, with these controls beside those that are given."""

    def made(*given: Control) -> torch.Tensor:
        model = tiny_model()
        kept = change(model)
        result = clip(model, *given, *controls, **more)
        if isinstance(kept, WeightStream):
            kept.close()
        return result

    return made


def unchanged(model: SVDModel) -> None:
    """Leave a model as it is."""


CIRCUMSTANCES = {
    "plain": with_model(unchanged),
    "windows": with_model(unchanged, Windows(2, 1)),
    "reused features": with_model(unchanged, ReuseFeatures(2, 1)),
    "streamed weights": with_model(lambda model: WeightStream(model.unet, "cpu")),
    "half precision": with_model(lambda model: model.to(dtype="float16")),
    "bfloat16": with_model(lambda model: model.to(dtype="bfloat16")),
    "passes together": with_model(lambda model: set_guidance_mode(model.unet, "together")),
    "passes in turn": with_model(lambda model: set_guidance_mode(model.unet, "in turn")),
    "heun": with_model(unchanged, solver="heun"),
    "dpmpp_2m": with_model(unchanged, solver="dpmpp_2m"),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_strength_0_leaves_the_clip_bit_equal(make, circumstance):
    made = CIRCUMSTANCES[circumstance]
    plain = made()
    assert torch.equal(made(make(0.0)), plain)
    if circumstance == "plain":
        assert not torch.allclose(made(make(1.0)), plain, atol=1e-3)


@pytest.mark.parametrize("other", ADAPTERS)
def test_strength_0_leaves_the_clip_of_another_adapter_bit_equal(make, other):
    beside = ADAPTERS[other](1.0)
    alone = clip(tiny_model(), beside)
    assert torch.equal(clip(tiny_model(), make(0.0), beside), alone)
    assert torch.equal(clip(tiny_model(), beside, make(0.0)), alone)


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
