"""Doubling and convolution in one step give the same numbers with 4/9 of the operations, where that is exact."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from svd_core.networks.layers import enlarge_and_convolve
from svd_core.networks.step_cache import StepCache


def layer(channels_in: int = 3, channels_out: int = 5, **options) -> nn.Conv2d:
    torch.manual_seed(2)
    return nn.Conv2d(channels_in, channels_out, 3, **{"padding": 1, **options})


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(4))


def in_two_steps(conv: nn.Module, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return conv(F.interpolate(x, size=size, mode="nearest"))


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (4, 6), (9, 5)])
def test_one_step_gives_what_two_steps_give(height, width, bias):
    conv, x = layer(bias=bias), picture(height, width)
    size = (2 * height, 2 * width)
    # Up to four products of order 1 are summed in another order: a few units in the last place.
    torch.testing.assert_close(
        enlarge_and_convolve(conv, x, size, StepCache()), in_two_steps(conv, x, size), atol=2e-6, rtol=0
    )


@torch.no_grad()
def test_doubling_takes_four_ninths_of_the_operations_and_a_border():
    conv, x = layer(16, 16), picture(20, 30, 16)
    with FlopCounterMode(display=False) as ours:
        enlarge_and_convolve(conv, x, (40, 60), cache := StepCache())
    with FlopCounterMode(display=False) as again:
        enlarge_and_convolve(conv, x, (40, 60), cache)
    with FlopCounterMode(display=False) as both_steps:
        in_two_steps(conv, x, (40, 60))
    assert again.get_total_flops() / both_steps.get_total_flops() == pytest.approx(4 / 9 * (21 * 31) / (20 * 30))
    assert ours.get_total_flops() > again.get_total_flops()  # the summed weights are cached


@torch.no_grad()
def test_a_changed_weight_takes_effect_at_once():
    conv, x, cache = layer(), picture(4, 4), StepCache()
    enlarge_and_convolve(conv, x, (8, 8), cache)
    conv.weight.mul_(2)
    conv.bias.add_(1)
    torch.testing.assert_close(
        enlarge_and_convolve(conv, x, (8, 8), cache), in_two_steps(conv, x, (8, 8)), atol=2e-6, rtol=0
    )


class Scaled(nn.Conv2d):
    """A host's layer, which may do more than a plain convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(x)


def hooked() -> nn.Module:
    conv = layer()
    conv.register_forward_hook(lambda module, given, out: out + 1)
    return conv


def of_a_host() -> nn.Module:
    torch.manual_seed(2)
    return Scaled(3, 5, 3, padding=1)


@torch.no_grad()
@pytest.mark.parametrize(
    ("conv", "dtype", "size"),
    [
        (layer, torch.bfloat16, (8, 10)),  # would round the summed weights once more
        (layer, torch.float32, (7, 10)),  # an odd skip
        (lambda: layer(padding=0), torch.float32, (8, 10)),
        (lambda: layer(padding=1, padding_mode="circular"), torch.float32, (8, 10)),
        (lambda: layer(padding=1, stride=2), torch.float32, (8, 10)),
        (lambda: layer(padding=2, dilation=2), torch.float32, (8, 10)),
        (hooked, torch.float32, (8, 10)),
        (of_a_host, torch.float32, (8, 10)),
    ],
)
def test_other_layers_and_sizes_use_two_steps_bit_for_bit(conv, dtype, size):
    conv, x = conv().to(dtype), picture(4, 5).to(dtype)
    assert torch.equal(enlarge_and_convolve(conv, x, size, StepCache()), in_two_steps(conv, x, size))


def test_gradients_reach_the_weights():
    conv, x = layer(), picture(4, 4)
    out = enlarge_and_convolve(conv, x, (8, 8), StepCache())
    assert torch.equal(out, in_two_steps(conv, x, (8, 8))), "training is exact"
    out.sum().backward()
    assert conv.weight.grad is not None and conv.weight.grad.abs().sum() > 0
