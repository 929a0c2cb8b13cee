"""Adapters: attached to a clip on the chain of controls, they follow its frames through windows, turns and passes."""

from dataclasses import dataclass, replace

import pytest
import torch

from svd_core.condition import Adapter, Condition
from svd_core.controls.adapters import AdapterControl, sigma_at
from svd_core.controls.windows import Windows
from svd_core.networks.config import UNetConfig
from svd_core.networks.hooks import TEMPORAL, BlockHooks, Hooks
from svd_core.networks.unet import UNet
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.guidance import batches_conditions
from svd_core.sampling.sampler import sample

CONFIG = UNetConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0, 1), head_channels=16,
    context_channels=24, vector_channels=48,
)  # fmt: skip
FRAMES = 4
SIGMAS = [50.0, 5.0, 0.5, 0.0]


class _Shift(Hooks):
    uses_embedding = False

    def __init__(self, amount, seen):
        self.amount, self.seen = amount, seen

    def after_input(self, index, h):
        self.seen.append(("rows", len(h)))
        return h + self.amount.reshape(-1, 1, 1, 1) if index == 0 else h

    def transformer(self, shape):
        return _Temporal(float(self.amount.flatten()[0]))


class _Temporal(BlockHooks):
    def __init__(self, amount):
        self.amount, self.kind = amount, None

    def begin(self, kind, heads, head_width):
        self.kind = kind

    def between(self, x):
        return x + self.amount if self.kind == TEMPORAL else x


@dataclass(frozen=True, eq=False)
class Shift(Adapter):
    """Adds a number per frame to the first features, and to every temporal block the first frame's."""

    amount: torch.Tensor
    both: bool = True
    seen: list = None

    @property
    def rows(self):
        return len(self.amount)

    def with_parts(self, change):
        return replace(self, amount=change(self.amount))

    def unconditional(self):
        return self if self.both else None

    def hooks(self, inputs):
        self.seen.append((inputs.x.shape, inputs.depth, inputs.context.shape, self.amount.tolist()))
        return _Shift(self.amount, self.seen)


def shift(*amounts, **more):
    return Shift(torch.tensor(amounts or (0.1, 0.2, 0.3, 0.4)), seen=[], **more)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    network = UNet(CONFIG).requires_grad_(False)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


def condition(frames=1):
    torch.manual_seed(1)
    return Condition(torch.randn(1, 1, 24), torch.randn(1, 4, 8, 8), torch.randn(frames, 48))


def noise(frames=FRAMES):
    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def clip(unet, *controls, frames=FRAMES, guidance=2.0, **more):
    def denoise(x, sigma, given, features=None):
        return denoise_with(unet, x, sigma, given)

    return sample(denoise, noise(frames), SIGMAS, guidance, condition(), controls=controls, **more)


@pytest.mark.parametrize("off", [{"enabled": False}, {"start": 1.0}, {"end": 0.0}])
def test_an_adapter_that_is_off_leaves_the_clip_bit_equal(unet, off):
    control = AdapterControl(shift(), **off)
    assert not control.active
    assert torch.equal(clip(unet, control), clip(unet))
    assert (clip(unet, AdapterControl(shift())) - clip(unet)).abs().max() > 1e-3


def test_every_pass_over_one_clip_asks_the_adapter_once(unet):
    adapter = shift()
    clip(unet, AdapterControl(adapter))
    calls = [call for call in adapter.seen if call[0] != "rows"]
    assert len(calls) == 2 * (len(SIGMAS) - 1), "a conditional and an unconditional pass per step"
    assert calls[0] == ((FRAMES, 8, 8, 8), None, (FRAMES, 1, 24), pytest.approx([0.1, 0.2, 0.3, 0.4]))


def test_an_adapter_of_the_conditional_pass_leaves_the_other_alone(unet):
    adapter = shift(both=False)
    made = clip(unet, AdapterControl(adapter))
    assert len([call for call in adapter.seen if call[0] != "rows"]) == len(SIGMAS) - 1
    assert (made - clip(unet, AdapterControl(shift()))).abs().max() > 1e-3
    explicit = clip(unet, AdapterControl(shift(both=False)), unconditional=condition().unconditional())
    assert torch.equal(made, explicit), "a given unconditional condition is treated like the made one"


@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 1.0, 3), (0.0, 0.3, 1), (0.3, 0.5, 1), (0.5, 1.0, 1)])
def test_the_range_counts_in_the_logarithm_of_the_noise_level(unet, start, end, steps):
    adapter = shift(both=False)
    clip(unet, AdapterControl(adapter, start, end))
    assert len([call for call in adapter.seen if call[0] != "rows"]) == steps


def test_shares_are_those_of_the_host():
    # ModelSamplingContinuousEDM.percent_to_sigma of ComfyUI for 0.002 to 700.
    assert sigma_at(0.5) == pytest.approx(1.18322, rel=1e-5)
    assert sigma_at(0.0) == float("inf") and sigma_at(1.0) == 0.0


def test_windows_and_turned_clips_take_the_rows_of_their_frames(unet):
    adapter = shift(*(0.1 * row for row in range(8)), both=False)
    clip(unet, AdapterControl(adapter), Windows(4, 0, shift=False), frames=8, guidance=1.0)
    rows = [call[-1] for call in adapter.seen if call[0] != "rows"][:2]
    assert rows == [pytest.approx([0, 0.1, 0.2, 0.3]), pytest.approx([0.4, 0.5, 0.6, 0.7])]
    turned = replace(condition(), adapters=(shift(),)).turned()
    assert turned.adapters[0].amount.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("both", [True, False])
def test_clips_that_share_a_pass_have_their_own_hooks(unet, both):
    """One row of hooks per clip: a shared pass equals the passes in turn up to rounding."""
    given = replace(condition(), adapters=(shift(both=both),))
    pair = (given.unconditional(), given)
    x = noise() * 3
    together = denoise_with(unet, x, 3.0, pair)
    for one, estimate in zip(pair, together, strict=True):
        assert torch.allclose(estimate, denoise_with(unet, x, 3.0, one), atol=1e-4)
    plain = denoise_with(unet, x, 3.0, replace(given.unconditional(), adapters=()))
    assert torch.allclose(together[0], plain, atol=1e-4) is not both


@pytest.mark.parametrize("frames", [3, 5])
def test_an_adapter_for_another_length_is_refused(unet, frames):
    with pytest.raises(ValueError, match=f"{frames} frames.*4"):
        clip(unet, AdapterControl(shift(*range(frames))))


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (0, 1.1), (0.6, 0.4)])
def test_a_range_that_cannot_be_is_refused(start, end):
    with pytest.raises(ValueError, match="between 0 and 1|swap"):
        AdapterControl(shift(), start, end)


def test_conditions_of_other_kinds_are_refused(unet):
    @batches_conditions
    def denoise(x, sigma, given):
        return x

    with pytest.raises(ValueError, match="Condition"):
        sample(denoise, noise(), SIGMAS, 1.0, object(), controls=(AdapterControl(shift()),))
