"""Half precision as the default: measured on MPS and XPU before a model is loaded in it."""

import logging
import math
import re

import pytest
import torch
from torch import nn

import svd_core as svd
from svd_core.checkpoints import load
from svd_core.cli.main import build_parser
from svd_core.model import devices, half_precision
from svd_core.model.half_precision import LIMIT, HalfCheck, check_half, measured_error
from tests.helpers.simulated_device import simulated

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_measured():
    check_half.cache_clear()
    yield
    check_half.cache_clear()


def test_float16_differs_by_its_rounding_on_a_simulated_device(monkeypatch):
    """Numbers of the simulation are those of the CPU: above rounding once (0.0005), well below the limit."""
    before = torch.get_rng_state()
    with simulated("mps", monkeypatch) as device:
        error = measured_error(device.device)
        assert device.counts["float64"] == 0
    assert 0.0005 < error < LIMIT / 2
    assert torch.equal(torch.get_rng_state(), before), "seeds of clips do not depend on the test"


@pytest.mark.parametrize(("wrong", "expected"), [(0.05, 0.02), (math.nan, math.inf), (math.inf, math.inf)])
def test_a_kernel_that_is_wrong_in_float16_is_found(monkeypatch, wrong, expected):
    plain = nn.functional.linear

    def broken(x, weight, bias=None):
        out = plain(x, weight, bias)
        return out + wrong * out.abs().max() if out.dtype == torch.float16 else out

    monkeypatch.setattr(nn.functional, "linear", broken)
    assert measured_error(CPU) >= expected


@pytest.mark.parametrize("kind", devices.TESTED)
@pytest.mark.parametrize(
    ("error", "dtype", "level", "words"),
    [
        (
            0.003,
            "float16",
            logging.INFO,
            r"differs from float32 by 0.30% on .*:0 \(at most 1% .*\), so auto .* float16",
        ),
        (LIMIT, "float16", logging.INFO, "float16$"),
        (0.02, "float32", logging.WARNING, "differs from float32 by 2.00%.*so auto loads weights in float32"),
        (math.inf, "float32", logging.WARNING, "gives numbers that are not finite on .*so auto loads .* float32"),
    ],
)
def test_float16_is_the_default_where_its_error_allows(kind, error, dtype, level, words, monkeypatch, caplog):
    monkeypatch.setattr(half_precision, "measured_error", lambda device: error)
    with caplog.at_level(logging.INFO, logger="svd_reel"):
        assert devices.default_dtype(torch.device(kind, 0)) == dtype
    (record,) = caplog.records
    assert record.levelno == level
    assert re.search(words, record.message)


def test_other_devices_are_not_tested(monkeypatch):
    monkeypatch.setattr(half_precision, "measured_error", lambda device: pytest.fail("measured"))
    assert devices.default_dtype(torch.device("cuda", 1)) == "float16"
    assert devices.default_dtype(CPU) == "float32"


def test_a_device_is_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(half_precision, "measured_error", lambda device: calls.append(device) or 0.001)
    for _ in range(3):
        devices.default_dtype(torch.device("mps", 0))
    assert len(calls) == 1 and isinstance(check_half(torch.device("mps", 0)), HalfCheck)


def test_a_model_is_loaded_in_the_dtype_that_auto_finds(monkeypatch):
    assert svd.load_model("nano", dtype="auto").dtype == torch.float32
    monkeypatch.setattr(load, "default_dtype", lambda device: "float16")
    assert svd.load_model("nano", dtype="auto").dtype == torch.float16


@pytest.mark.parametrize("command", [["animate", "a.png", "--output", "b.mp4"], ["batch", "folder", "--output", "out"]])
def test_auto_is_a_dtype_of_the_command_line(command, capsys):
    parser = build_parser()
    assert parser.parse_args(command).dtype is None
    assert parser.parse_args([*command, "--dtype", "auto"]).dtype is None
    assert parser.parse_args([*command, "--dtype", "float16"]).dtype == "float16"
    with pytest.raises(SystemExit):
        parser.parse_args([*command, "--dtype", "float8"])
    assert "'float8' is unknown; use auto, float32, float16" in capsys.readouterr().err


def test_the_trial_has_every_kind_of_layer_of_the_unet():
    """So that a kernel that breaks in half precision is met before the model is loaded."""
    trial = {type(layer) for layer in half_precision.UNet(half_precision.TRIAL, device="meta").modules()}
    real = {type(layer) for layer in half_precision.UNet(half_precision.UNetConfig(), device="meta").modules()}
    assert {layer.__name__ for layer in real - trial} <= {"Downsample", "Upsample"}, "convolutions: the trial has some"
