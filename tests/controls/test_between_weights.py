"""The fine-tuned in-between: how often the model runs, what is held, and what cannot be combined with it."""

import pytest
import torch

from svd_core.controls.between_weights import BackwardAdapter, FineTunedBetween, LoadedBackwardMotion
from svd_core.controls.windows import Windows
from svd_core.networks.backward_motion import BackwardMotion
from svd_core.networks.unet import transformer_places
from svd_core.sampling.reuse import ReuseFeatures
from svd_core.sampling.sampler import sample
from tests.helpers.steering_networks import drawn
from tests.helpers.tiny_unets import FRAMES, SIDE, TINY, condition_for, random, tiny_model

SIGMAS = [50.0, 20.0, 5.0, 0.5, 0.0]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    return LoadedBackwardMotion(
        drawn(BackwardMotion({at.place: at.channels for at in transformer_places(TINY)})), "net"
    )


def between(model, weights, **options):
    start, end = condition_for(model), condition_for(model, seed=9)
    return FineTunedBetween(end, start.latent, end.latent, weights=weights, **options)


def clip(model, *controls, frames=FRAMES, guidance=2.0, count=None):
    def counted(*given, **more):
        if count is not None:
            count.append(given[1])
        return model.denoise(*given, **more)

    noise = random(frames, 4, SIDE, SIDE, seed=3)
    return sample(counted, noise, SIGMAS, guidance, condition_for(model), controls=controls)


def test_without_strength_the_clip_is_bit_equal(model, weights):
    assert torch.equal(clip(model, between(model, weights, strength=0.0)), clip(model))


def test_both_ends_are_the_pictures(model, weights):
    made, ends = clip(model, between(model, weights)), (condition_for(model), condition_for(model, seed=9))
    assert torch.allclose(made[0], ends[0].latent[0], atol=1e-5)
    assert torch.allclose(made[-1], ends[1].latent[0], atol=1e-5)


@pytest.mark.parametrize(("repeats", "passes"), [(0, 8), (1, 12), (3, 20)])
def test_the_first_half_of_the_steps_is_repeated(model, weights, repeats, passes):
    count = []
    clip(model, between(model, weights, repeats=repeats), guidance=1.0, count=count)
    assert len(count) == passes  # 4 steps, 2 of them repeated, each of two views


def test_the_weights_the_ramp_and_guidance_count(model, weights):
    plain = clip(model, between(model, weights), frames=5)
    other = LoadedBackwardMotion(drawn(BackwardMotion(weights.network.widths)), "other")
    for changed in (between(model, other), between(model, weights, ramp=True)):
        assert not torch.allclose(clip(model, changed, frames=5), plain, atol=1e-3)
    assert not torch.allclose(clip(model, between(model, weights), frames=5, guidance=1.0), plain, atol=1e-3)


def test_each_pass_of_guidance_has_attention_of_its_own(weights):
    adapter = BackwardAdapter(weights.network, FRAMES, {}, {})
    without = adapter.unconditional()
    assert without.maps is adapter.other is not adapter.maps and without.unconditional().maps is adapter.maps


@pytest.mark.parametrize(
    ("controls", "frames", "words"),
    [
        ((Windows(FRAMES, 1),), FRAMES + 2, "cannot run in windows .got 3 of 5 frames."),
        ((ReuseFeatures(2, 1),), FRAMES, "cannot reuse features"),
    ],
)
def test_windows_and_reused_features_are_refused(model, weights, controls, frames, words):
    with pytest.raises(ValueError, match=words):
        clip(model, *controls, between(model, weights), frames=frames)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"weights": None}, "needs backward motion weights"), ({"repeats": 21}, "0 to 20 .got 21.; use 0, or 5")],
)
def test_what_cannot_be_is_refused(model, weights, options, words):
    end = condition_for(model)
    with pytest.raises(ValueError, match=words):
        FineTunedBetween(end, end.latent, end.latent, **{"weights": weights} | options)
