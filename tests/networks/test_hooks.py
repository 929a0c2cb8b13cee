"""Hooks of the UNet: the order in which they are called, what they may change, and that none costs nothing."""

import pytest
import torch

from svd_core.condition import DeepFeatures
from svd_core.networks.config import UNetConfig
from svd_core.networks.controlnet import AddResiduals, ControlNet, skip_widths, trained_counts
from svd_core.networks.hooks import SPATIAL, TEMPORAL, BlockHooks, Chain, Hooks
from svd_core.networks.unet import UNet

CONFIG = UNetConfig(
    model_channels=32, channel_mult=(1, 2, 4, 4), head_channels=16, context_channels=24, vector_channels=48
)
FRAMES, ROWS = 3, 6
PLACES = [*(("input", i) for i in range(12)), ("middle", 0), *(("output", i) for i in range(12))]


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    network = UNet(CONFIG).requires_grad_(False)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(1)
    token = torch.randn(2, 1, 24).repeat_interleave(FRAMES, 0)
    return torch.randn(ROWS, 8, 8, 8), torch.full((ROWS,), 0.3), token, torch.randn(1, 48).repeat(ROWS, 1), FRAMES


def relative(one, other):
    return float((one - other).norm() / other.norm())


class Everywhere(Hooks):
    """Takes every transformer off its fast path, and changes nothing."""

    def transformer(self, shape):
        return BlockHooks()


class Recorder(Hooks):
    def __init__(self):
        self.calls = []

    def start(self, x, num_frames):
        self.calls.append(("start", tuple(x.shape), num_frames))

    def enter(self, place):
        self.calls.append(("enter", place))

    def after_input(self, index, h):
        self.calls.append(("after_input", index))
        return h

    def after_skip(self, index, h):
        self.calls.append(("after_skip", index))
        return h

    def after_middle(self, h, embedding):
        self.calls.append(("after_middle", tuple(embedding.shape)))
        return h

    def skip(self, index, h, skip):
        self.calls.append(("skip", index))
        return h, skip

    def transformer(self, shape):
        self.calls.append(("transformer", shape[1]))


class Blocks(BlockHooks):
    def __init__(self, calls):
        self.calls = calls

    def begin(self, kind, heads, head_width):
        self.calls.append((kind, heads, head_width))

    def inputs(self, which, query, key, value):
        self.calls.append(("inputs", which, tuple(query.shape), tuple(key.shape)))
        return query, key, value

    def attend(self, which, q, k, v, heads, attention):
        self.calls.append(("attend", which))
        return attention(q, k, v, heads)

    def output(self, which, x):
        self.calls.append(("output", which))
        return x

    def between(self, x):
        self.calls.append(("between",))
        return x


def test_hooks_that_change_nothing_leave_the_result(unet, given):
    plain = unet(*given)
    # Hooked embeddings are computed row by row, which rounds differently.
    assert relative(unet(*given, hooks=Hooks()), plain) < 1e-5
    assert relative(unet(*given, hooks=Everywhere()), plain) < 1e-5
    assert torch.equal(unet(*given), plain), "a hooked pass leaves nothing behind"


def test_blocks_are_announced_in_the_order_in_which_they_run(unet, given):
    recorder = Recorder()
    unet(*given, hooks=recorder)
    assert recorder.calls[0] == ("start", (ROWS, 8, 8, 8), FRAMES)
    assert [place for name, *place in recorder.calls if name == "enter"] == [[place] for place in PLACES]
    for name in ("after_input", "after_skip", "skip"):
        assert [call[1] for call in recorder.calls if call[0] == name] == list(range(12))
    assert sum(call[0] == "transformer" for call in recorder.calls) == 16
    position = {call: number for number, call in enumerate(recorder.calls)}
    assert position["after_input", 3] < position["after_skip", 3] < position["enter", ("input", 4)]
    assert position["enter", ("output", 5)] < position["skip", 5]


def test_a_transformer_runs_its_spatial_block_then_its_temporal_one(unet, given):
    calls = []

    class First(Hooks):
        def transformer(self, shape):
            return None if calls else Blocks(calls)

    unet(*given, hooks=First())
    pixels = 64
    inside = [("inputs", 1), ("attend", 1), ("output", 1), ("between",), ("inputs", 2), ("attend", 2), ("output", 2)]
    assert [call[: len(want)] for call, want in zip(calls[1:8], inside, strict=True)] == inside
    assert calls[0] == (SPATIAL, 2, 16) and calls[8] == (TEMPORAL, 2, 16)
    assert calls[1][2:] == ((ROWS, pixels, 32), (ROWS, pixels, 32)) and calls[5][3] == (ROWS, 1, 24)
    assert calls[9][2] == (2 * pixels, FRAMES, 32) and calls[13][3] == (2 * pixels, 1, 24)


@pytest.mark.parametrize("name", ["inputs", "attend", "output", "between"])
def test_every_block_hook_changes_the_result(unet, given, name):
    class Changed(BlockHooks):
        def inputs(self, which, query, key, value):
            return (query * 2, key, value * 2) if name == "inputs" else (query, key, value)

        def attend(self, which, q, k, v, heads, attention):
            return attention(q, k, v, heads) * (2 if name == "attend" else 1)

        def output(self, which, x):
            return x * 2 if name == "output" else x

        def between(self, x):
            return x * 2 if name == "between" else x

    class Driver(Hooks):
        def transformer(self, shape):
            return Changed()

    assert relative(unet(*given, hooks=Driver()), unet(*given)) > 1e-3


def test_a_chain_runs_its_members_in_order(unet, given):
    class Add(Hooks):
        def __init__(self, by, times):
            self.by, self.times = by, times

        def after_input(self, index, h):
            return h * self.times + self.by if index == 0 else h

    one = unet(*given, hooks=Chain([Add(1, 2), Add(3, 5)]))
    assert relative(one, unet(*given, hooks=Add(1 * 5 + 3, 10))) < 1e-5
    assert relative(one, unet(*given, hooks=Chain([Add(3, 5), Add(1, 2)]))) > 1e-4


def test_hooks_may_write_into_cached_features_without_changing_them(unet, given):
    class Writes(Hooks):
        def skip(self, index, h, skip):
            h += 1
            return h, skip

    features = DeepFeatures(3)
    first = unet(*given, features=features, hooks=Writes())
    cached = features.cached.clone()
    again = unet(*given, features=features, hooks=Writes())
    assert torch.equal(features.cached, cached) and relative(again, first) < 1e-5


def test_residuals_count_as_the_public_weights_were_trained():
    assert trained_counts(UNetConfig()) == [4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1]
    assert skip_widths(UNetConfig()) == [320] * 4 + [640] * 3 + [1280] * 5


def test_a_controlnet_at_strength_0_changes_nothing_and_at_1_does(unet, given):
    torch.manual_seed(2)
    network = ControlNet(CONFIG).requires_grad_(False)
    hint = network.hint(torch.rand(ROWS, 3, 64, 64) * 2 - 1)
    residuals = network.residuals(*given, hint)
    counts = trained_counts(CONFIG)
    assert [tuple(skip.shape[1:]) for skip in residuals.skips][-1] == (128, 1, 1)
    plain = unet(*given, hooks=Hooks())
    assert torch.equal(unet(*given, hooks=AddResiduals(residuals, counts, 0.0)), plain)
    full = unet(*given, hooks=AddResiduals(residuals, counts))
    assert relative(full, plain) > 1e-3
    frames = torch.tensor([1.0, 0.0, 0.0]).repeat(2).reshape(-1, 1, 1, 1)
    assert relative(unet(*given, hooks=AddResiduals(residuals, counts, frames)), full) > 1e-4
