"""Skip guidance: the formula by numbers, its passes and noise levels, and the weak twin inside a real network."""

import math

import pytest
import torch

import svd_core as svd
from svd_core.condition import Condition
from svd_core.controls.skip_guidance import KINDS, SkipGuidance, WeakTwin
from svd_core.controls.steady import SteadyGuidance
from svd_core.networks.vae import LATENT_SCALE
from svd_core.sampling.controls import resolution_scale
from tests.helpers.motion_models import Counted, H, W, obedient_model, run


def weakened(x, sigma, given):
    """The model of the tests, whose weak twin answers half as much."""
    weak = any(isinstance(adapter, WeakTwin) for adapter in given.adapters)
    return obedient_model(x, sigma, given) * (0.5 if weak else 1.0)


def test_off_is_bit_equal_and_on_scales_the_last_frame_more():
    plain = run(model=weakened)
    assert torch.equal(run([SkipGuidance(0.0)], model=weakened), plain)
    sharp = run([SkipGuidance(0.4, rescale=0.0, sigma_low=0.0)], model=weakened)
    change = (sharp - plain).abs().mean((1, 2, 3))
    assert change[-1] > 1.5 * change[0] > 0
    calm = run([SkipGuidance(0.4, rescale=1.0, sigma_low=0.0)], model=weakened)
    assert calm.std() < sharp.std()


@pytest.mark.parametrize(("guidance", "passes"), [(1.0, 2), (3.0, 3)])
def test_one_more_pass_at_the_levels_that_it_concerns(guidance, passes):
    model = Counted(weakened)
    run([SkipGuidance()], model=model, steps=12, guidance=guidance)
    scale = resolution_scale(H, W)
    for sigma in set(model.sigmas):
        inside = 0.5 * scale <= sigma <= 40 * scale
        assert model.sigmas.count(sigma) == (passes if inside else passes - 1)
    weak = [bool(one.adapters) for one in model.conditions]
    assert 0 < sum(weak) == sum(0.5 * scale <= sigma <= 40 * scale for sigma in set(model.sigmas))


def test_it_works_inside_corrected_guidance_in_either_order():
    one, other = SkipGuidance(0.5), SteadyGuidance(rescale=0.5)
    assert torch.equal(run([one, other], model=weakened), run([other, one], model=weakened))


@pytest.fixture(scope="module")
def nano():
    return svd.load_model("nano")


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_lacks_attention_in_its_blocks_only(nano, kind):
    generator = torch.Generator().manual_seed(1)
    x, latent = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(1, 4, 8, 8, generator=generator)
    vector = nano.embed_motion(fps_id=6, motion_bucket_id=127, augmentation_level=0.02)
    token = torch.randn(1, 1, nano.config.unet.context_channels, generator=generator)

    def estimate(blocks):
        adapters = (WeakTwin(kind, frozenset(blocks)),) if blocks else ()
        return nano.denoise(x, 2.0, Condition(token, latent / LATENT_SCALE, vector, adapters=adapters))

    plain, none = estimate(()), estimate((0,))  # the lowest level has no transformers
    torch.testing.assert_close(none, plain, atol=1e-5, rtol=1e-5)
    assert (estimate((4, 5)) - plain).abs().mean() > 1e-4
    assert (estimate((3,)) - estimate((4, 5))).abs().mean() > 1e-4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": -1.0}, r"0 or above \(got -1\); use 0.5 to 1.5"),
        ({"scale": math.nan}, r"got nan\); use"),
        ({"kind": "magic"}, "'magic' is unknown; use one of attention, residual"),
        ({"blocks": ()}, r"got \[\]\); use 4 and 5"),
        ({"sigma_low": 50.0}, "got 50 to 40"),
        ({"rescale": 2.0}, r"between 0 and 1 \(got 2\); use 0.7"),
    ],
)
def test_bad_numbers_end_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        SkipGuidance(**given)


def test_an_animated_clip_takes_it_from_its_settings(nano):
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    settings = svd.AnimateSettings(width=64, height=64, frames=2, steps=8, seed=1)
    clips = [svd.animate(nano, picture, settings), svd.animate(nano, picture, settings, skip_guidance=1.0)]
    assert not torch.equal(*clips)
