"""ControlNets on the chain of controls: what they change, where and when, and what leaves the clip as it is."""

import pytest
import torch

from svd_core.condition import Condition, DeepFeatures
from svd_core.controls.adapters import AdapterControl
from svd_core.controls.controlnet import ControlNetAdapter, controlnet_control, for_frames, strengths_over
from svd_core.controls.windows import Windows
from svd_core.model.model import SVDModel
from svd_core.model.weight_stream import WeightStream
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.networks.controlnet import AddResiduals, ControlNet, trained_counts
from svd_core.networks.layers import sinusoidal_embedding
from svd_core.networks.unet import UNet
from svd_core.sampling.reuse import ReuseFeatures
from svd_core.sampling.sampler import sample

CONFIG = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0,), head_channels=16,
    context_channels=24, vector_channels=768,
)  # fmt: skip
FRAMES, SIDE = 4, 8
SIGMAS = [50.0, 5.0, 0.5, 0.0]


def drawn(network):
    """Random weights, of a size at which every layer counts."""
    for parameter in network.requires_grad_(False).parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SVDModel(drawn(UNet(CONFIG)), None, None, SVDConfig(CONFIG, None, None, frames=FRAMES, width=64, height=64))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return drawn(ControlNet(CONFIG))


def pictures(count=FRAMES, seed=3):
    return torch.rand(count, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def condition():
    draw = torch.Generator().manual_seed(4)
    return Condition(*(torch.randn(*shape, generator=draw) for shape in ((1, 1, 24), (1, 4, SIDE, SIDE), (1, 768))))


def clip(model, *controls, frames=FRAMES, guidance=2.0):
    noise = torch.randn(frames, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    return sample(model.denoise, noise, SIGMAS, guidance, condition(), controls=controls)


def far(one, other):
    return float((one - other).norm() / other.norm())


def test_strength_zero_is_bit_equal_and_runs_nothing(model, network):
    for off in ({"strength": 0.0}, {"strength": [0.0, 0.0]}, {"end": 0.0}, {"mask": torch.zeros(1, 1, 64, 64)}):
        control = controlnet_control(network, pictures(), FRAMES, **off)
        assert not control.active and torch.equal(clip(model, control), clip(model)), off
    assert far(clip(model, controlnet_control(network, pictures(), FRAMES)), clip(model)) > 0.01


def test_the_chain_gives_what_residuals_by_hand_give(model, network):
    """One evaluation: the adapter's hooks equal the network's own residuals, summed as trained."""
    control = controlnet_control(network, pictures(), FRAMES, strength=0.7)
    given, x = condition().over_frames(FRAMES), torch.randn(FRAMES, 8, SIDE, SIDE)
    c_noise = torch.full((FRAMES,), 0.4)
    seen = {}

    class Watched(AddResiduals):
        pass

    official = torch.cat([sinusoidal_embedding(torch.tensor([n]), 256) for n in (6.0, 128.0, 0.02)], 1)
    made = network.residuals(x, c_noise, given.token, official.expand(FRAMES, -1), FRAMES, network.hint(pictures()))
    hooks = Watched(made, trained_counts(CONFIG), 0.7)
    expected = model.unet(x, c_noise, given.token, given.vector, FRAMES, hooks=hooks)
    found = model.unet(
        x, c_noise, given.token, given.vector, FRAMES, adapters=[[control.adapter.begin(torch.device("cpu"))]]
    )
    assert far(found, expected) < 1e-6, seen


@pytest.mark.parametrize(
    ("name", "value"),
    [("sums", "once"), ("numbers", "as the clip"), ("numbers", "as trained"), ("both", False), ("end", 0.4),
     ("strength", [0.0, 1.0])],
)  # fmt: skip
def test_every_choice_changes_the_clip(model, network, name, value):
    usual = clip(model, controlnet_control(network, pictures(), FRAMES))
    assert far(clip(model, controlnet_control(network, pictures(), FRAMES, **{name: value})), usual) > 1e-4


def test_numbers_are_those_of_the_script_the_clip_or_the_training(network):
    clip_vector = torch.arange(768.0)[None]

    def vector(numbers):
        return controlnet_control(network, pictures(), FRAMES, numbers=numbers).adapter.vector(clip_vector)

    embedded = {n: sinusoidal_embedding(torch.tensor([n]), 256)[0] for n in (6.0, 128.0, 0.02)}
    assert torch.equal(vector("official")[0], torch.cat([embedded[6.0], embedded[128.0], embedded[0.02]]))
    assert torch.equal(vector("as the clip"), clip_vector)
    assert torch.equal(vector("as trained")[0], torch.cat([embedded[6.0], embedded[0.02], clip_vector[0, 256:512]]))


def test_a_mask_acts_where_it_is_white(model, network):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    adapter = controlnet_control(network, pictures(), FRAMES, mask=mask).adapter
    hooks = AddResiduals(None, (), 1.0, adapter.mask)
    weighted = hooks._weighted(torch.ones(FRAMES, 5, 4, 4), 3)
    assert torch.equal(weighted[..., :2], torch.full((FRAMES, 5, 4, 2), 3.0)) and not weighted[..., 2:].any()


def test_windows_take_the_pictures_of_their_frames(model, network):
    """A clip of two windows without overlap is the clips of both halves of the control."""
    long = pictures(8)
    control = controlnet_control(network, long, 8)
    made = clip(model, control, Windows(4, 0, shift=False), frames=8)
    plain = clip(model, Windows(4, 0, shift=False), frames=8)
    halves = [controlnet_control(network, long[start : start + 4], 4).adapter for start in (0, 4)]
    noise = torch.randn(8, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    for start, adapter in zip((0, 4), halves, strict=True):
        alone = sample(model.denoise, noise[start : start + 4], SIGMAS, 2.0, condition(),
                       controls=(AdapterControl(adapter),))  # fmt: skip
        assert far(made[start : start + 4], alone) < 1e-5
    assert far(made, plain) > 0.01


def test_reused_features_keep_the_control(model, network):
    """A pass that takes its inner features from a cache needs only the outer residuals, and gives the same bits."""
    adapter = controlnet_control(network, pictures(), FRAMES).adapter
    given = condition().over_frames(FRAMES)
    x, c_noise = torch.randn(FRAMES, 8, SIDE, SIDE), torch.full((FRAMES,), 0.4)
    features = DeepFeatures(1)
    arguments = (x, c_noise, given.token, given.vector, FRAMES)
    whole = model.unet(*arguments, features=features, adapters=[[adapter]])
    assert far(model.unet(*arguments, features=features, adapters=[[adapter]]), whole) < 1e-6
    control = controlnet_control(network, pictures(), FRAMES)
    assert far(clip(model, control, ReuseFeatures(2, 1)), clip(model, control)) > 1e-6


def test_streamed_weights_give_the_same_residuals(network):
    torch.manual_seed(1)
    own = drawn(ControlNet(CONFIG))
    given, x = condition().over_frames(FRAMES), torch.randn(FRAMES, 8, SIDE, SIDE)
    arguments = (x, torch.full((FRAMES,), 0.4), given.token, given.vector, FRAMES, own.hint(pictures()))
    with torch.no_grad():
        before = own.residuals(*arguments)
        stream = WeightStream(own, "cpu")
        after = own.residuals(*arguments)
        stream.close()
    for one, other in zip((*before.skips, before.middle), (*after.skips, after.middle), strict=True):
        assert torch.equal(one, other)


def test_hint_features_are_made_once_per_run(model, network, monkeypatch):
    calls = []
    forward = network.hint.forward
    monkeypatch.setattr(network.hint, "forward", lambda x: calls.append(len(x)) or forward(x))
    control = controlnet_control(network, pictures(), FRAMES)
    clip(model, control)
    assert calls == [4]
    clip(model, controlnet_control(network, pictures(1), FRAMES))
    assert calls == [4, 1], "one picture for all frames is encoded once"


def test_pictures_fill_the_frames():
    three = torch.arange(3.0).reshape(3, 1, 1, 1)
    assert for_frames(three, 5).flatten().tolist() == [0, 1, 2, 2, 2]
    assert for_frames(three, 2).flatten().tolist() == [0, 1]
    assert len(for_frames(three[:1], 5)) == 1
    assert strengths_over([0, 1], 3).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strength": -1.0}, "strength.*-1"),
        ({"strength": float("nan")}, "finite"),
        ({"strength": []}, "at least 1 value"),
        ({"sums": "twice"}, "sums.*twice.*as trained, once"),
        ({"numbers": "mine"}, "numbers.*mine.*official"),
        ({"start": 0.5, "end": 0.2}, "0.5 to 0.2"),
        ({"pictures": torch.full((1, 3, 64, 64), float("nan"))}, "NaN"),
    ],
)
def test_what_cannot_be_is_refused(network, given, words):
    given = {"pictures": pictures(), "frames": FRAMES, **given}
    with pytest.raises(ValueError, match=words):
        controlnet_control(network, **given)


def test_pictures_of_another_size_are_refused(model, network):
    control = controlnet_control(network, pictures()[..., :32], FRAMES)
    with pytest.raises(ValueError, match="32x64 pixels.*64x64"):
        clip(model, control)


def test_the_adapter_is_its_own_counterpart_or_none(network):
    adapter = ControlNetAdapter(network, pictures(), torch.ones(1))
    assert adapter.unconditional() is adapter
    assert ControlNetAdapter(network, pictures(), torch.ones(1), both=False).unconditional() is None
