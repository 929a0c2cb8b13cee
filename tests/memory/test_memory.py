"""Byte counts, the estimates of the real networks on the meta device, and free memory."""

from types import SimpleNamespace

import pytest
import torch

from svd_core import memory
from svd_core.memory import PeakMemory, available_bytes
from svd_core.model.streamed_decode import decode_clip
from svd_core.networks.activation_bytes import decoder_activation_bytes, unet_activation_bytes
from svd_core.networks.config import CoderConfig, UNetConfig, VAEConfig
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

SMALL = UNetConfig(model_channels=32, channel_mult=(1, 2, 2, 2), head_channels=32, context_channels=64)


def unet_peak(config: UNetConfig, videos: int, frames: int, height: int, width: int, dtype: torch.dtype) -> PeakMemory:
    unet = UNet(config, device="meta", dtype=dtype)
    rows = videos * frames
    with torch.no_grad(), PeakMemory() as memory:
        unet(
            torch.empty(rows, config.in_channels, height, width, device="meta", dtype=dtype),
            torch.empty(rows, device="meta"),
            torch.empty(rows, 1, config.context_channels, device="meta", dtype=dtype),
            torch.empty(rows, config.vector_channels, device="meta"),
            frames,
        )
    return memory


def test_peak_counts_what_is_alive_at_the_same_time():
    with PeakMemory() as memory:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b * 2
        del b, c
    assert memory.peak == 8000
    assert memory.live == 0
    assert memory.operations == 3


def test_views_and_in_place_operations_use_no_memory():
    with PeakMemory() as memory:
        a = torch.zeros(10, 100)
        a.add_(1).mul_(2)
        _ = a.transpose(0, 1)[3].reshape(2, 5)
    assert memory.peak == 4000
    assert memory.operations == 3  # in-place operations still run kernels


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (UNetConfig(), (1, 25, 72, 128)),
        (UNetConfig(), (2, 14, 72, 128)),
        (UNetConfig(), (1, 14, 40, 72)),
        (SMALL, (1, 8, 16, 16)),
        (SMALL, (3, 8, 64, 48)),
    ],
)
def test_unet_estimate_is_at_least_the_peak_and_close_to_it(config, shape, dtype):
    videos, frames, height, width = shape
    peak = unet_peak(config, *shape, dtype).peak
    estimate = unet_activation_bytes(config, frames, height, width, dtype.itemsize, videos=videos)
    assert peak <= estimate <= 1.1 * peak


@torch.no_grad()
@pytest.mark.parametrize("strategy", ["store", "recompute"])
@pytest.mark.parametrize(("config", "frames"), [(CoderConfig(), 7), (CoderConfig(), 2), (CoderConfig(32), 9)])
def test_decoder_estimate_is_at_least_the_peak(config, frames, strategy):
    vae = VAE(VAEConfig(config, config), device="meta", dtype=torch.float16)
    with PeakMemory() as memory:
        decode_clip(vae, torch.empty(frames, 4, 72, 128, device="meta", dtype=torch.float16), strategy)
    estimate = decoder_activation_bytes(config, frames, 72, 128, 2, strategy=strategy)
    # Statistics of short clips and attention of narrow decoders are only bounded, hence the loose upper limit.
    assert memory.peak <= estimate <= 4 * memory.peak


def test_nine_tenths_of_the_available_memory_may_be_used(monkeypatch):
    class Answer:
        available, free, total = 10_000, 2_000, 50_000

    monkeypatch.setattr(memory.psutil, "virtual_memory", Answer)
    assert available_bytes(torch.device("cpu")) == 9_000
    assert available_bytes(torch.device("xpu")) is None, "unknown"


@pytest.mark.parametrize(("recommended", "available", "allowed"), [(9_000, 50_000, 6_300), (9_000, 1_000, 2_700)])
def test_on_apple_a_stage_stays_within_what_is_recommended_and_what_does_not_swap(
    monkeypatch, recommended, available, allowed
):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: recommended)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4_000)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    assert available_bytes(torch.device("mps")) == allowed


def test_the_system_reports_available_memory():
    assert 0 < available_bytes(torch.device("cpu")) < 2**50
