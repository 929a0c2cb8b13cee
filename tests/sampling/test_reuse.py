"""Feature reuse across steps: exact whole passes, separate features per condition and frame, and the savings."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from svd_core.condition import Condition, DeepFeatures
from svd_core.controls.between import Blend
from svd_core.controls.loop import LatentRoll
from svd_core.controls.windows import Windows
from svd_core.model.weight_stream import WeightStream
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from svd_core.pipelines.settings import AnimateSettings, reuse_controls
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.reuse import Features, FeatureStore, ReuseFeatures
from svd_core.sampling.solvers import SOLVERS
from tests.helpers.motion_models import FRAMES, H, W, condition, obedient_model, run

SMALL = UNetConfig(
    model_channels=32, channel_mult=(1, 1, 1, 1), head_channels=16, context_channels=24, vector_channels=48
)
PAIRS = 12


def small_unet() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return UNet(SMALL).requires_grad_(False)


def given(frames=2, height=4, width=8, seed=0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(frames, 8, height, width, generator=draw),
        "c_noise": torch.tensor(0.3).expand(frames),
        "context": torch.randn(1, 1, 24, generator=draw).expand(frames, -1, -1),
        "vector": torch.randn(1, 48, generator=draw).expand(frames, -1),
        "num_frames": frames,
    }


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6, 9, PAIRS - 1])
def test_a_pass_that_takes_up_its_own_features_gives_the_same_bits(depth):
    unet, inputs = small_unet(), given()
    features = DeepFeatures(depth)
    whole = unet(**inputs, features=features)
    kept = features.cached.clone()
    assert torch.equal(whole, unet(**inputs))
    assert torch.equal(unet(**inputs, features=features), whole)
    assert torch.equal(features.cached, kept)  # nothing wrote into it


@torch.no_grad()
def test_a_pass_with_other_features_follows_them():
    unet = small_unet()
    features = DeepFeatures(2)
    unet(**given(seed=1), features=features)
    whole = unet(**given())
    reused = unet(**given(), features=features)
    assert not torch.allclose(reused, whole, atol=1e-3) and torch.isfinite(reused).all()


@torch.no_grad()
def test_streamed_weights_follow_a_pass_that_leaves_blocks_out():
    unet, inputs, features = small_unet(), given(), DeepFeatures(2)
    whole = unet(**inputs, features=features)
    stream = WeightStream(unet, "cpu")
    for kept in (features.cached, None, features.cached):
        assert torch.equal(unet(**inputs, features=DeepFeatures(2, kept)), whole)
    stream.close()


@pytest.mark.parametrize("depth", [0, PAIRS])
def test_a_depth_that_the_network_has_not_is_refused(depth):
    with pytest.raises(ValueError, match=rf"must be 1 to 11 .*got {depth}"):
        small_unet()(**given(), features=DeepFeatures(depth))


def inner(x):
    """What a clip looks like whatever its noise level: each frame's direction."""
    return x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def straight_model(x, sigma, given_, features=None):
    """A model that scales every frame, by its condition: with the right features a reusing step gives the same.

    The direction of a frame never changes along a path, and the condition decides on its length; both come from the
    features.
    """
    made = inner(x) * (1 + given_.token.mean())
    if features is not None and features.cached is None:
        features.cached = made
    made = made if features is None else features.cached
    return made * x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) / (2 + sigma)


END = condition(picture=torch.randn(1, 4, H, W, generator=torch.Generator().manual_seed(8)))
ORIGIN = torch.zeros(1, 4, H, W)


class Turned(Blend):
    """The blend alone: holding the ends at pictures would turn the frames."""

    def edit_estimate(self, run, x, sigma, estimate):
        return estimate


CHAINS = {
    "alone": (),
    "windows that stay": (Windows(3, 1, shift=False),),
    "windows that move": (Windows(3, 1),),
    "closed windows": (Windows(3, 1, closed=True),),
    "a clip that rolls": (LatentRoll(),),
    "views from both ends": (Turned(END, ORIGIN, ORIGIN),),
}


@pytest.mark.parametrize("first", [True, False], ids=["reuse first", "reuse last"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_branch_and_frame_takes_up_its_own(name, first):
    asked = []

    def model(x, sigma, given_, features=None):
        asked.append(features is not None and features.cached is not None)
        return straight_model(x, sigma, given_, features)

    guidance = Guidance(torch.linspace(1.5, 3, FRAMES))
    exact = run(CHAINS[name], straight_model, guidance=guidance)
    reuse = (ReuseFeatures(3),)
    clip = run((*reuse, *CHAINS[name]) if first else (*CHAINS[name], *reuse), model, guidance=guidance)
    assert sum(asked) >= len(asked) / 3  # of 6 steps 4 take up features; moved windows find most of theirs
    torch.testing.assert_close(clip, exact, rtol=1e-4, atol=1e-3)


def test_one_cache_for_both_branches_would_be_seen():
    store = {}

    def careless(x, sigma, given_, features=None):
        features.cached = store.get("kept")
        estimate = straight_model(x, sigma, given_, features)
        store["kept"] = features.cached
        return estimate

    assert not torch.allclose(run((ReuseFeatures(3),), careless), run((), straight_model), atol=1e-2)


def test_an_interval_of_one_is_off():
    assert torch.equal(run((ReuseFeatures(1),)), run())  # and the model is asked as without
    assert reuse_controls(AnimateSettings()) == ()
    wanted = ReuseFeatures(2, 3, 0.5)
    assert reuse_controls(AnimateSettings(reuse=2, reuse_depth=3, reuse_sigma_low=0.5)) == (wanted,)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_makes_the_whole_pass_at_every_third_sigma(solver):
    whole = []

    def model(x, sigma, given_, features=None):
        whole.append((round(sigma, 6), features.cached is None))
        features.cached = x
        return obedient_model(x, sigma, given_)

    control = ReuseFeatures(3)
    sigmas = torch.tensor([700.0, 200, 50, 10, 2, 0.5, 0.1, 0])
    run((control,), model, sigmas=sigmas, solver=solver, guidance=1.0)
    expected = {700.0: True, 200.0: False, 50.0: False, 10.0: True, 2.0: False, 0.5: False, 0.1: True}
    first = {sigma: flag for sigma, flag in reversed(whole)}
    assert first == pytest.approx(expected)
    assert control.whole_share(sigmas) == pytest.approx(3 / 7)


def test_outside_the_range_of_sigmas_passes_are_whole_and_keep_nothing():
    asked = {}

    def model(x, sigma, given_, features=None):
        asked[round(sigma, 3)] = None if features is None else features.cached is None
        if features is not None:
            features.cached = x
        return obedient_model(x, sigma, given_)

    run((ReuseFeatures(2, 2, 1.0, 100.0),), model, sigmas=[700.0, 200, 50, 10, 2, 0.5, 0], guidance=1.0)
    assert asked == {700.0: None, 200.0: None, 50.0: True, 10.0: False, 2.0: True, 0.5: None}


def test_guidance_that_begins_between_whole_passes_starts_with_one():
    asked = []

    def model(x, sigma, given_, features=None):
        asked.append((sigma, bool(given_.token.any()), features.cached is None))
        features.cached = x
        return obedient_model(x, sigma, given_)

    sigmas = [700.0, 200, 50, 10, 0]
    run((ReuseFeatures(4),), model, sigmas=sigmas, guidance=Guidance(torch.tensor([3.0]), sigma_high=100.0))
    plain = [(sigma, whole) for sigma, conditional, whole in asked if not conditional]
    assert plain == [(50.0, True), (10.0, False)]


def test_an_interrupted_run_leaves_nothing_to_the_next():
    control = ReuseFeatures(3)

    def stop(step):
        if step.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run((control,), straight_model, on_step=stop)
    again = run((control,), straight_model, condition=END)
    assert torch.equal(again, run((ReuseFeatures(3),), straight_model, condition=END))
    other = {"noise": torch.randn(3, 4, 6, 10), "condition": condition(picture=torch.zeros(1, 4, 6, 10))}
    assert run((control,), straight_model, **other).shape == (3, 4, 6, 10)


def test_a_condition_that_changes_has_nothing_to_take_up():
    counted = []

    def model(x, sigma, given_, features=None):
        counted.append(features.cached is None)
        features.cached = x
        return obedient_model(x, sigma, given_)

    run((ReuseFeatures(3), Windows(3, 1, shift=False, rolling=1e6)), model, guidance=1.0)
    later = counted[1::2]  # every second window starts from a picture of its own
    assert all(later) and not all(counted)


def test_frames_follow_windows_and_turns():
    store = FeatureStore(ReuseFeatures(2))
    features = Features(store, tuple(range(6))).of_frames(torch.tensor([4, 5, 0, 1]))
    assert features.frames == (4, 5, 0, 1)
    assert features.turned().frames == (1, 0, 5, 4) and features.turned().backward
    store.is_whole(5.0)
    for frames in ((0, 1, 2), (2, 3, 4)):
        store.keep((True, False), None, frames, torch.tensor([10.0 * frames[0] + f for f in frames]))
    assert store.find((True, False), None, (1, 2, 3)) is None  # a whole pass is due
    store.is_whole(4.0)
    assert store.find((True, False), None, (1, 2, 3)).tolist() == [1.0, 2.0, 23.0]
    assert store.find((True, False), None, (2, 3, 4)).tolist() == [22.0, 23.0, 24.0]
    assert store.find((False, False), None, (2, 3, 4)) is None and store.find((True, False), None, (4, 5)) is None


WRONG = [
    ({"interval": 0}, r"interval must be 1 or more \(got 0\)"),
    ({"depth": 0}, r"depth must be 1 or more .*\(got 0\)"),
    ({"sigma_low": 5.0, "sigma_high": 1.0}, "swap the two"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[w[1] for w in WRONG])
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ReuseFeatures(**{"interval": 2} | values)


@pytest.mark.parametrize("values", [{"interval": 1}, {"depth": 1}, {"sigma_low": 2.0, "sigma_high": 2.0}])
def test_the_limits_of_the_settings_themselves_are_allowed(values):
    settings = ReuseFeatures(**values)
    assert settings.active == (settings.interval > 1)


def test_features_are_found_by_equal_token_and_latent_alone():
    token, latent, vector = torch.ones(1, 1, 2), torch.zeros(1, 4, 2, 2), torch.ones(1, 3)
    kept = Condition(token, latent, vector)
    store = FeatureStore(ReuseFeatures(2), 1)
    store.is_whole(9.0)
    store.keep((True, False), kept, (0,), torch.tensor([5.0]))
    store.is_whole(8.0)

    def found(other) -> bool:
        return store.find((True, False), other, (0,)) is not None

    assert found(kept) and found(Condition(token.clone(), latent.clone(), vector + 1))
    assert not found(Condition(token + 1, latent, vector)) and not found(Condition(token, latent + 1, vector))
    assert not found(Condition(token.expand(2, -1, -1), latent, vector))
    assert not found(None) and not found("text") and not found(SimpleNamespace(token=token, latent=latent))


@pytest.mark.parametrize(
    ("interval", "whole"), [(1, [1] * 6), (2, [1, 0] * 3), (3, [1, 0, 0] * 2), (5, [1, 0, 0, 0, 0, 1])]
)
def test_every_intervalth_sigma_is_whole(interval, whole):
    settings = ReuseFeatures(interval)
    store = FeatureStore(settings)
    sigmas = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert [store.is_whole(sigma) for sigma in sigmas[:-1]] == [bool(value) for value in whole]
    assert settings.whole_share(sigmas) == pytest.approx(sum(whole) / 6)


@pytest.mark.parametrize(("frames", "clip", "rows"), [(8, 8, 8), (10, 8, 10), (7, 8, 12), (4, 0, 4), (14, 8, 14)])
def test_windows_cache_up_to_half_more_than_the_clip(frames, clip, rows):
    assert FeatureStore(ReuseFeatures(2), clip).cached_rows(frames) == rows


def test_features_cached_with_an_adapter_are_not_used_without_it():
    """Where an adapter's range ends, the inner blocks must run again."""
    plain = condition()
    adapted = replace(plain, adapters=(SimpleNamespace(rows=1, network=object()),))
    store = FeatureStore(ReuseFeatures(2), FRAMES)
    assert store.is_whole(5.0)
    store.keep((True, False), adapted, (0, 1), torch.ones(2, 3))
    assert not store.is_whole(4.0)
    assert store.find((True, False), plain, (0, 1)) is None
    assert store.find((True, False), replace(adapted), (0, 1)) is not None
