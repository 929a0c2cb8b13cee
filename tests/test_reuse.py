"""Reuse of features across steps: exact where it must be, each branch and frame with its own, and what it saves."""

import pytest
import torch
from motion_models import FRAMES, Counted, H, W, condition, obedient_model, run
from nodes_pack import part
from nodes_pack import run as run_node
from torch.utils.flop_counter import FlopCounterMode

from svd_core.features import DeepFeatures
from svd_core.memory import PeakMemory, unet_activation_bytes
from svd_core.models.config import UNetConfig
from svd_core.models.unet import UNet
from svd_core.motion.inbetween import Blend
from svd_core.motion.loop import LatentRoll
from svd_core.motion.windows import Windows
from svd_core.plan.reuse_costs import kept_bytes, mean_flops, shallow_flops
from svd_core.plan.streaming import WeightStream
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.reuse import Features, FeatureStore, ReuseFeatures
from svd_core.sampling.solvers import SOLVERS
from svd_core.settings import AnimateSettings

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
    kept = features.kept.clone()
    assert torch.equal(whole, unet(**inputs))
    assert torch.equal(unet(**inputs, features=features), whole)
    assert torch.equal(features.kept, kept)  # nothing wrote into it


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
    for kept in (features.kept, None, features.kept):
        assert torch.equal(unet(**inputs, features=DeepFeatures(2, kept)), whole)
    stream.close()


@pytest.mark.parametrize("depth", [0, PAIRS])
def test_a_depth_that_the_network_has_not_is_refused(depth):
    with pytest.raises(ValueError, match=f"{depth} pairs of blocks.*use 1 to 11"):
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
    if features is not None and features.kept is None:
        features.kept = made
    made = made if features is None else features.kept
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
        asked.append(features is not None and features.kept is not None)
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
        features.kept = store.get("kept")
        estimate = straight_model(x, sigma, given_, features)
        store["kept"] = features.kept
        return estimate

    assert not torch.allclose(run((ReuseFeatures(3),), careless), run((), straight_model), atol=1e-2)


def test_an_interval_of_one_is_off():
    assert torch.equal(run((ReuseFeatures(1),)), run())  # and the model is asked as without
    assert AnimateSettings().run_controls() == () and ReuseFeatures(1).features_depth == 0
    wanted = ReuseFeatures(2, 3, 0.5)
    assert AnimateSettings(reuse=2, reuse_depth=3, reuse_sigma_low=0.5).run_controls() == (wanted,)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_makes_the_whole_pass_at_every_third_sigma(solver):
    whole = []

    def model(x, sigma, given_, features=None):
        whole.append((round(sigma, 6), features.kept is None))
        features.kept = x
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
        asked[round(sigma, 3)] = None if features is None else features.kept is None
        if features is not None:
            features.kept = x
        return obedient_model(x, sigma, given_)

    run((ReuseFeatures(2, 2, 1.0, 100.0),), model, sigmas=[700.0, 200, 50, 10, 2, 0.5, 0], guidance=1.0)
    assert asked == {700.0: None, 200.0: None, 50.0: True, 10.0: False, 2.0: True, 0.5: None}


def test_guidance_that_begins_between_whole_passes_starts_with_one():
    asked = []

    def model(x, sigma, given_, features=None):
        asked.append((sigma, bool(given_.token.any()), features.kept is None))
        features.kept = x
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
        counted.append(features.kept is None)
        features.kept = x
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
    ({"interval": 0}, "reused for 0 steps"),
    ({"depth": 0}, "0 pairs of blocks"),
    ({"sigma_low": 5.0, "sigma_high": 1.0}, "swap the two"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[w[1] for w in WRONG])
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ReuseFeatures(**{"interval": 2} | values)


@pytest.fixture(scope="module")
def real():
    return UNet(UNetConfig(), device="meta", dtype=torch.float16)


def real_inputs(frames=25, height=72, width=128) -> dict:
    made = {"device": "meta", "dtype": torch.float16}
    return {
        "x": torch.empty(frames, 8, height, width, **made),
        "c_noise": torch.empty(1, device="meta").expand(frames),
        "context": torch.empty(1, 1, 1024, **made).expand(frames, -1, -1),
        "vector": torch.empty(1, 768, **made).expand(frames, -1),
        "num_frames": frames,
    }


@torch.no_grad()
def test_costs_at_full_size_are_those_that_are_told(real):
    def product(into, left, right, *rest, out_shape=None, **options):
        return 2 * left[0] * left[1] * right[1]

    def flops(features) -> float:
        # The counter knows only products out of place.
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
            real(**real_inputs(), features=features)
        return counter.get_total_flops()

    config, size = UNetConfig(), (25, 72, 128)
    first = DeepFeatures(2)
    whole = flops(first)
    assert kept_bytes(config, 2, *size, branches=1) == first.kept.numel() * first.kept.element_size()
    for depth, share, channels in ((1, 0.087, 320), (2, 0.25, 320), (3, 0.42, 640)):
        kept = torch.empty(25, channels, 72, 128, device="meta", dtype=torch.float16)
        reusing = flops(DeepFeatures(depth, kept))
        assert reusing <= share * whole
        assert shallow_flops(config, depth, *size) == pytest.approx(reusing, rel=0.02)
        assert kept_bytes(config, depth, *size, branches=1) == kept.numel() * kept.element_size()
    assert mean_flops(config, 3, 1, *size) == pytest.approx((whole + 2 * shallow_flops(config, 1, *size)) / 3, rel=0.02)

    other = DeepFeatures(2)
    with PeakMemory() as memory:  # the second branch, while the first one's features are kept
        real(**real_inputs(), features=other)
    peak = memory.peak + first.kept.numel() * first.kept.element_size()
    assert peak == pytest.approx(unet_activation_bytes(config, *size) + kept_bytes(config, 2, *size), rel=0.1)


def test_the_node_chains_and_its_bytes_are_planned_for():
    model = run_node("SVDReelLoadModel", model_name="nano (embedded)", precision="fp32")[0]
    (chain,) = run_node("SVDReelReuseFeatures", interval=2)
    assert chain.of_clip(0, 1) == (part("svd_core.sampling.reuse").ReuseFeatures(2),) and chain.features_depth == 2
    (longer,) = run_node("SVDReelReuseFeatures", interval=1, control=chain)
    assert len(longer.of_clip(0, 1)) == 2 and longer.features_depth == 2
    size = (8, 16, 16)
    config = model.config.unet
    assert model.kept_bytes(chain, *size) == kept_bytes(config, 2, *size, model.compute_dtype.itemsize) > 0
    assert model.kept_bytes(part("nodes.controls").ControlChain(), *size) == 0


def test_the_hosts_sampling_takes_up_the_features_of_its_own_branches():
    reuse = part("nodes.host_reuse")
    kept_of = reuse.HostReuse(part("svd_core.sampling.reuse").ReuseFeatures(2))
    x, tokens = torch.randn(4, 8, 3, 5), torch.ones(4, 1, 6)
    seen = []

    def step(sigma, branches, context=tokens, shown=x):
        def forward(features):
            seen.append(None if features is None else features.kept)
            if features.kept is None:
                features.kept = torch.full((4, 1), float(sigma) + branches[0])
            return shown

        kept_of.run(forward, shown, context, {"sigmas": torch.tensor([sigma]), "cond_or_uncond": branches})
        return seen[-1]

    assert step(50.0, [0]) is None and step(50.0, [1], 0 * tokens) is None
    assert step(20.0, [1], 0 * tokens).unique().item() == 51.0 and step(20.0, [0]).unique().item() == 50.0
    assert step(20.0, [0], 2 * tokens) is None  # another picture
    assert step(10.0, [0]) is None and step(5.0, [1, 0]) is None


def test_exporting_wraps_sampling_only_where_features_are_reused(monkeypatch):
    class Patcher:
        def __init__(self, wrapped):
            self.wrapped = wrapped

        def clone(self):
            return Patcher(self.wrapped)

        def add_wrapper_with_key(self, kind, key, wrapper):
            self.wrapped.append((kind, wrapper))

    class Guider:
        model_options = {"transformer_options": {}}

    class Executor:
        class_obj = Guider()

        def __call__(self, *given_, **more):
            return dict(self.class_obj.model_options["transformer_options"])

    host = part("nodes.host")
    comfy = type("comfy", (), {})
    comfy.patcher_extension = type("e", (), {"WrappersMP": type("w", (), {"OUTER_SAMPLE": "outer_sample"})})
    comfy.model_patcher = type(
        "m", (), {"create_model_options_clone": staticmethod(lambda o: {**o, "transformer_options": {}})}
    )
    monkeypatch.setattr(host, "comfy", comfy, raising=False)
    monkeypatch.setattr(host, "PRESENT", True)
    model = type("Loaded", (), {"unet": Patcher([])})()
    assert run_node("SVDReelExportModel", model=model)[0].wrapped == []
    ((kind, wrapper),) = run_node("SVDReelExportModel", model=model, reuse_interval=2)[0].wrapped
    first, second = wrapper(Executor()), wrapper(Executor())
    key = part("nodes.host_reuse").KEY
    assert (
        kind == "outer_sample" and first[key] is not second[key] and Guider.model_options["transformer_options"] == {}
    )


def test_models_that_know_of_no_features_are_never_asked_for_them_while_it_is_off():
    counted = Counted()
    run((ReuseFeatures(1), Windows(3, 1)), counted)
    assert counted.sigmas
