"""Convolutions of large frames run in strips on a CPU: the same frames, and a run can be stopped in between."""

import pytest
import torch
from torch import nn

from svd_core import stopping
from svd_core.model.streamed_decode import STRATEGIES, decode_clip
from svd_core.networks import layers
from svd_core.networks.config import CoderConfig, VAEConfig
from svd_core.networks.layers import convolve, enlarge_and_convolve
from svd_core.networks.step_cache import StepCache
from svd_core.networks.vae import VAE

SIZES = ((1, 6, 97, 24), (2, 6, 64, 24), (1, 6, 33, 8), (1, 6, 32, 8))
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SMALL = {"WORK_OF_STRIP": 1, "ROWS_OF_STRIP": 8}


class Stopped(Exception):
    """The user wants to stop."""


@pytest.fixture
def asked(monkeypatch):
    """The list of what was done before each question; tests may make it raise."""
    monkeypatch.setattr(stopping, "_questions", [])
    count = []
    stopping.ask_between(lambda: count.append(None))
    return count


def short_strips(monkeypatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(layers, name, value)


def whole_and_in_strips(work, monkeypatch) -> tuple[torch.Tensor, torch.Tensor]:
    whole = work()
    short_strips(monkeypatch)
    return whole, work()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_strips_give_the_frames_and_the_layout_of_one_convolution(size, layout, monkeypatch, asked):
    torch.manual_seed(3)
    conv, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(size).contiguous(memory_format=layout)
    whole, strips = whole_and_in_strips(lambda: convolve(conv, x), monkeypatch)
    # Sums of 54 products in another order: a few last places of values of about 1.
    torch.testing.assert_close(strips, whole, rtol=0, atol=2e-6)
    assert strips.is_contiguous(memory_format=layout) or len(x) > 1
    assert len(asked) == -(-size[2] // 8)


@pytest.mark.parametrize("enlarged", [(66, 48), (99, 48)], ids=["doubled", "stretched"])
@torch.no_grad()
def test_enlarged_frames_are_convolved_in_strips(enlarged, monkeypatch, asked):
    torch.manual_seed(4)
    conv, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(1, 6, 33, 24)
    whole, strips = whole_and_in_strips(lambda: enlarge_and_convolve(conv, x, enlarged, StepCache()), monkeypatch)
    torch.testing.assert_close(strips, whole, rtol=0, atol=2e-6)
    assert len(asked) > 4


def wraps(conv: nn.Conv2d) -> None:
    conv.padding_mode = "circular"


def is_replaced(conv: nn.Conv2d) -> None:
    conv._conv_forward = lambda x, weight, bias: x.flip(2)


def is_hooked(conv: nn.Conv2d) -> None:
    conv.register_forward_hook(lambda layer, given, out: out - out.mean(2, keepdim=True))


@pytest.mark.parametrize("change", [wraps, is_replaced, is_hooked])
@torch.no_grad()
def test_a_changed_layer_sees_whole_frames(change, monkeypatch, asked):
    conv, x = nn.Conv2d(6, 6, 3, padding=1), torch.randn(1, 6, 33, 24)
    change(conv)
    whole, again = whole_and_in_strips(lambda: convolve(conv, x), monkeypatch)
    assert torch.equal(again, whole) and torch.equal(whole, conv(x)) and asked == []


def test_gradients_come_from_one_convolution(monkeypatch, asked):
    short_strips(monkeypatch)
    conv, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(1, 6, 33, 24)
    convolve(conv, x).sum().backward()
    assert conv.weight.grad is not None and asked == []


@torch.no_grad()
def test_every_way_of_decoding_has_the_same_bits_in_strips(monkeypatch, asked):
    torch.manual_seed(5)
    coder = CoderConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1)
    vae, latent = VAE(VAEConfig(coder, coder, temporal=True)).eval(), torch.randn(3, 4, 24, 6)
    plain = decode_clip(vae, latent)
    before = len(asked)
    short_strips(monkeypatch)
    clips = [decode_clip(vae, latent, strategy) for strategy in STRATEGIES]
    assert all(torch.equal(clip, clips[0]) for clip in clips)
    torch.testing.assert_close(clips[0], plain, rtol=0, atol=1e-5)
    assert len(asked) > 4 * before


@torch.no_grad()
def test_a_run_stops_between_strips(monkeypatch):
    short_strips(monkeypatch)

    def stop() -> None:
        raise Stopped

    monkeypatch.setattr(stopping, "_questions", [stop])
    with pytest.raises(Stopped):
        convolve(nn.Conv2d(6, 5, 3, padding=1), torch.randn(1, 6, 33, 24))
