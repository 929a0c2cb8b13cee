"""Costs of feature reuse at full size, its node, and reuse in the host's sampling."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svd_core.condition import DeepFeatures
from svd_core.controls.windows import Windows
from svd_core.memory import PeakMemory
from svd_core.networks.activation_bytes import unet_activation_bytes
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from svd_core.plan.reuse_costs import feature_cache_bytes, mean_flops, shallow_flops
from svd_core.sampling.reuse import ReuseFeatures
from tests.helpers.motion_models import Counted, run
from tests.helpers.nodes_pack import part
from tests.helpers.nodes_pack import run as run_node


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
def test_costs_at_full_size_equal_counted_ones(real):
    def product(into, left, right, *rest, out_shape=None, **options):
        return 2 * left[0] * left[1] * right[1]

    def flops(features) -> float:
        # The counter misses in-place products.
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
            real(**real_inputs(), features=features)
        return counter.get_total_flops()

    config, size = UNetConfig(), (25, 72, 128)
    first = DeepFeatures(2)
    whole = flops(first)
    assert feature_cache_bytes(config, 2, *size) == first.cached.numel() * first.cached.element_size()
    for depth, share, channels in ((1, 0.087, 320), (2, 0.25, 320), (3, 0.42, 640)):
        kept = torch.empty(25, channels, 72, 128, device="meta", dtype=torch.float16)
        reusing = flops(DeepFeatures(depth, kept))
        assert reusing <= share * whole
        assert shallow_flops(config, depth, *size) == pytest.approx(reusing, rel=0.02)
        assert feature_cache_bytes(config, depth, *size) == kept.numel() * kept.element_size()
    assert mean_flops(config, 3, 1, *size) == pytest.approx((whole + 2 * shallow_flops(config, 1, *size)) / 3, rel=0.02)

    other = DeepFeatures(2)
    with PeakMemory() as memory:  # the second pass, while the features of the first one are cached
        real(**real_inputs(), features=other)
    peak = memory.peak + first.cached.numel() * first.cached.element_size()
    assert peak == pytest.approx(unet_activation_bytes(config, *size) + feature_cache_bytes(config, 2, *size), rel=0.1)


def test_the_node_chains_and_its_bytes_are_planned_for(monkeypatch):
    model = run_node("SVDReelLoadModel", model_name="nano (embedded)", precision="fp32")[0]
    (chain,) = run_node("SVDReelReuseFeatures", interval=2)
    assert chain.of_clip(0, 1) == (part("svd_core.sampling.reuse").ReuseFeatures(2),)
    (longer,) = run_node("SVDReelReuseFeatures", interval=1, control=chain)
    assert len(longer.of_clip(0, 1)) == 2
    size, asked, host = (8, 16, 16), [], part("nodes.host.comfy")
    monkeypatch.setattr(host, "use", lambda patcher, size, others=(): asked.append(size) or torch.device("cpu"))
    features = part("svd_core.condition").DeepFeatures
    for given in (None, features(2, rows=8), features(2, rows=8), features(2, rows=12), None):
        model.prepare_unet(*size, given)
    kept = [
        feature_cache_bytes(model.config.unet, 2, rows, *size[1:], model.compute_dtype.itemsize) for rows in (8, 12)
    ]
    assert len(asked) == 3 and [more - asked[0] for more in asked[1:]] == kept and kept[0] > 0


def test_the_hosts_sampling_reuses_features_per_pass():
    reuse = part("nodes.host.reuse")
    kept_of = reuse.HostReuse(part("svd_core.sampling.reuse").ReuseFeatures(2))
    x, tokens = torch.randn(4, 8, 3, 5), torch.ones(4, 1, 6)
    seen = []

    def step(sigma, branches, context=tokens, shown=x):
        def forward(features):
            seen.append(None if features is None else features.cached)
            if features.cached is None:
                features.cached = torch.full((4, 1), float(sigma) + branches[0])
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

    host = part("nodes.host.comfy")
    comfy = type("comfy", (), {})
    comfy.patcher_extension = type("e", (), {"WrappersMP": type("w", (), {"OUTER_SAMPLE": "outer_sample"})})
    comfy.model_patcher = type(
        "m", (), {"create_model_options_clone": staticmethod(lambda o: {**o, "transformer_options": {}})}
    )
    monkeypatch.setattr(host, "comfy", comfy, raising=False)
    monkeypatch.setattr(host, "PRESENT", True)
    given = {"model": type("Loaded", (), {"unet": Patcher([]), "colours": None})()}
    # Previews wrap sampling too.
    plain = len(run_node("SVDReelExportModel", **given)[0].wrapped)
    given = {"model": type("Loaded", (), {"unet": Patcher([]), "colours": None})()}
    *others, (kind, wrapper) = run_node("SVDReelExportModel", **given, reuse_interval=2)[0].wrapped
    assert len(others) == plain
    first, second = wrapper(Executor()), wrapper(Executor())
    key = part("nodes.host.reuse").KEY
    assert (
        kind == "outer_sample" and first[key] is not second[key] and Guider.model_options["transformer_options"] == {}
    )


def test_models_without_a_feature_cache_work_while_reuse_is_off():
    counted = Counted()
    run((ReuseFeatures(1), Windows(3, 1)), counted)
    assert counted.sigmas
