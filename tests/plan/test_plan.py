"""Plans of memory and time, placed and streamed weights, and retries when memory runs out."""

import logging
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import svd_core as svd
from svd_core.cli.main import main
from svd_core.condition import Condition
from svd_core.model.model import SVDModel
from svd_core.model.switches import compile_blocks
from svd_core.model.weight_stream import WeightStream
from svd_core.networks import attention
from svd_core.networks.config import CoderConfig, ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.joined_weights import join_groups
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE
from svd_core.plan import PRESETS, make_plan
from svd_core.plan.costs import decoder_flops, encoder_flops, image_encoder_flops, unet_flops
from svd_core.plan.memory_plan import GIB, PLACEMENTS
from svd_core.plan.page import draw_plan
from svd_core.plan.placed import PlacedModel, place

UNET = UNetConfig(model_channels=32, channel_mult=(1, 2), attention_levels=(0,), head_channels=16, context_channels=24)
CODER = CoderConfig(channels=32, channel_mult=(1, 2))
XT = SVDConfig(variant="svd_xt", frames=25)


@pytest.fixture
def model() -> SVDModel:
    torch.manual_seed(5)
    unet, vae = UNet(UNET).requires_grad_(False), VAE(VAEConfig(CODER, CODER)).requires_grad_(False)
    return SVDModel(unet, vae, None, SVDConfig(UNET, VAEConfig(CODER, CODER), None, frames=3, width=64, height=64))


def one_step(model: SVDModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    token, latent = torch.randn(1, 1, 24, generator=generator), torch.randn(1, 4, 8, 8, generator=generator)
    condition = Condition(token, latent, torch.randn(1, 768, generator=generator))
    return model.denoise(torch.randn(3, 4, 8, 8, generator=generator), 1.5, condition)


def plan_for(gigabytes: float, config: SVDConfig = XT):
    return make_plan(config, config.frames, config.width, config.height, int(gigabytes * GIB))


def counted(run) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_operations_equal_those_of_a_counter():
    # Small networks, because counting the real ones takes a minute. What the formulas omit has most weight here.
    meta = {"device": "meta"}
    unet = UNet(UNET, **meta)
    x = torch.empty(3, 8, 16, 24, **meta)
    rows = (torch.empty(3, **meta), torch.empty(3, 1, 24, **meta), torch.empty(3, 768, **meta))
    # With gradients enabled, products are not in place; the counter misses in-place ones.
    with FlopCounterMode(display=False) as counter:
        unet(x, *rows, 3)
    assert unet_flops(UNET, 3, 16, 24) == pytest.approx(counter.get_total_flops(), rel=0.05)
    vae = VAE(VAEConfig(CODER, CODER), **meta)
    for dtype in (torch.float16, torch.float32):
        decoder, latent = (
            VAE(VAEConfig(CODER, CODER), **meta, dtype=dtype),
            torch.empty(3, 4, 16, 24, **meta, dtype=dtype),
        )
        expected = counted(lambda decoder=decoder, latent=latent: decoder.decode(latent, 3))
        assert decoder_flops(CODER, 3, 16, 24, itemsize=dtype.itemsize) == pytest.approx(expected, rel=0.05)
    image = torch.empty(1, 3, 32, 48, **meta)
    assert encoder_flops(CODER, 16, 24) == pytest.approx(counted(lambda: vae.encode(image)), rel=0.05)
    config = ImageEncoderConfig(56, 14, 64, 3, 16, 256, 32)
    encoder = ImageEncoder(config, **meta)
    pixels = torch.empty(1, 3, 56, 56, **meta)
    assert image_encoder_flops(config) == pytest.approx(counted(lambda: encoder(pixels)), rel=0.05)


def test_real_sizes_are_the_published_numbers():
    assert 2 * unet_flops(UNetConfig(), 25, 72, 128) / 1e12 == pytest.approx(153.9, rel=0.005)
    assert decoder_flops(CoderConfig(), 25, 72, 128) / 1e12 == pytest.approx(173.6, rel=0.005)
    assert encoder_flops(CoderConfig(), 72, 128) / 1e12 == pytest.approx(2.61, rel=0.01)
    assert image_encoder_flops(ImageEncoderConfig()) / 1e12 == pytest.approx(0.335, rel=0.05)


def test_every_preset_has_a_plan_for_svd_xt_that_fits_and_larger_ones_are_no_slower():
    plans = [plan_for(memory) for memory in PRESETS]
    assert all(plan.fits for plan in plans)
    assert [plan.placement for plan in plans] == ["streamed", "one at a time", "one at a time", "resident", "resident"]
    assert all(small.flops >= large.flops for small, large in zip(plans, plans[1:], strict=False))


def test_a_plan_that_does_not_fit_says_so_with_a_remedy():
    plan = plan_for(2)
    assert not plan.fits
    assert "smaller size or fewer frames" in plan.text()


@pytest.mark.parametrize(("memory", "width"), [(0, 1024), (8, 1001)])
def test_values_out_of_range_are_rejected(memory, width):
    with pytest.raises(ValueError, match="use"):
        make_plan(XT, 25, width, 576, memory * GIB)


def test_time_follows_the_rate_and_the_page_shows_a_bar_per_stage():
    plan = plan_for(8)
    assert plan.seconds is None
    assert replace(plan, rate=2e14).seconds == pytest.approx(replace(plan, rate=1e14).seconds / 2)
    page = draw_plan(replace(plan, rate=1e14))
    assert page.shape[0] == 1 and page.shape[3] == 3
    assert page.min() >= 0 and page.max() <= 1


@pytest.mark.parametrize("joining", [False, True], ids=["single", "joined"])
def test_streamed_weights_give_the_same_bits_and_are_restored(model, joining):
    if joining:
        join_groups(model.unet)
    whole = one_step(model)
    weights = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    stream = WeightStream(model.unet, "cpu")
    assert stream.device_bytes < sum(tensor.numel() * 4 for tensor in weights.values())
    assert torch.equal(one_step(model), whole)
    assert torch.equal(one_step(model), whole)  # the next pass starts with prefetched weights
    stream.close()
    assert torch.equal(one_step(model), whole)
    for name, tensor in model.unet.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placements_do_not_change_the_result(model, placement):
    step, frames = one_step(model), model.decode(torch.zeros(3, 4, 8, 8))
    placed = place(model, plan_for(24, model.config), "cpu")
    placed.move(placement)
    assert torch.equal(one_step(placed), step)
    assert torch.equal(placed.decode(torch.zeros(3, 4, 8, 8)), frames)
    assert torch.equal(one_step(placed), step)


def run_out(times: int):
    """Return a decorator under which a function runs out of memory `times` times, then works."""
    left = [times]

    def guard(original):
        def call(*args, **options):
            if left[0]:
                left[0] -= 1
                raise torch.cuda.OutOfMemoryError("injected")
            return original(*args, **options)

        return call

    return guard


def test_a_partly_loaded_network_is_offloaded_and_loaded_again(model, monkeypatch):
    step, went = one_step(model), []
    placed = place(model, plan_for(24, model.config), "cpu")
    monkeypatch.setattr(UNet, "to", lambda self, where: went.append(str(where)))
    monkeypatch.setattr(PlacedModel, "_load", run_out(1)(PlacedModel._load))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        placed.part("unet")
    assert went == ["cpu"]
    assert torch.equal(one_step(placed), step)
    assert went == ["cpu"] * 2  # offloaded exactly once


@pytest.mark.parametrize(
    ("chunks", "times", "placement"),
    [
        ("GPU chunks", 1, "resident"),
        ("GPU chunks", 3, "resident"),
        ("GPU chunks", 4, "one at a time"),
        ("GPU chunks", 5, "streamed"),
        ("CPU chunks", 1, "one at a time"),  # chunks are small from the start
        ("CPU chunks", 2, "streamed"),
    ],
)
def test_a_step_without_memory_is_retried_smaller_with_the_same_result(
    model, monkeypatch, caplog, chunks, times, placement
):
    whole = one_step(model)
    if chunks == "GPU chunks":
        monkeypatch.setattr(attention, "CHUNK_ELEMENTS_ON_CPU", attention.CHUNK_ELEMENTS)
    placed = place(model, plan_for(24, model.config), "cpu")
    monkeypatch.setattr(svd.model.model, "denoise_with", run_out(times)(svd.model.model.denoise_with))
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        result = one_step(placed)
    torch.testing.assert_close(result, whole, rtol=0, atol=1e-5)
    assert len([record for record in caplog.records if "out of memory" in record.message]) == times
    assert placed.placement == placement


@pytest.mark.parametrize("times", [1, 2])
def test_a_decode_without_memory_uses_the_next_strategy_with_the_same_result(model, monkeypatch, caplog, times):
    whole = model.decode(torch.ones(3, 4, 8, 8))
    calls = []
    monkeypatch.setattr("svd_core.model.decoding.decode_clip", run_out(times)(svd.model.decoding.decode_clip))
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        again = model.decode(torch.ones(3, 4, 8, 8), on_progress=lambda done, total: calls.append((done, total)))
    assert torch.equal(again, whole)
    assert ("recompute" if times == 1 else "host") in caplog.records[-1].message
    assert calls[-1][0] == calls[-1][1]


def test_an_error_is_raised_when_no_smaller_step_is_left(model, monkeypatch):
    monkeypatch.setattr(svd.model.model, "denoise_with", run_out(100)(svd.model.model.denoise_with))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        one_step(place(model, plan_for(24, model.config), "cpu"))


@torch.no_grad()
def test_compiled_blocks_give_the_same_result():
    torch.manual_seed(5)
    unet = UNet(replace(UNET, channel_mult=(1,), num_res_blocks=1)).requires_grad_(False)
    given = (torch.randn(2, 8, 8, 8), torch.ones(2), torch.randn(2, 1, 24), torch.randn(2, 768), 2)
    whole = unet(*given)
    # "eager" traces without generating code; this tests that the blocks can be traced.
    assert compile_blocks(unet, backend="eager") == 9
    torch.testing.assert_close(unet(*given), whole, rtol=0, atol=1e-5)


def test_the_command_plans_without_weights_and_draws_a_page(tmp_path, capsys):
    page = tmp_path / "plan.png"
    assert main(["plan", "--model", "svd_xt", "--memory", "8", "--rate", "100", "--page", str(page)]) == 0
    text = capsys.readouterr().out
    assert "25 frames of 1024x576 in 8 GB" in text
    assert "sampling" in text and "about" in text
    assert page.stat().st_size > 1000
    assert main(["plan", "--width", "1001"]) == 2


def test_the_command_rejects_negative_memory():
    with pytest.raises(SystemExit):
        main(["plan", "--memory", "-1"])
