"""The Triton kernels agree with the plain path over a table of shapes, compile for cards, and fall back safely.

Where there is no GPU they run by Triton's interpreter. What that cannot show: speed, the rounding of bfloat16 stores
(it cuts off), and memory beyond a tensor's end.
"""

import json
import logging
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from svd_core.networks import kernels, layers
from svd_core.networks.attention import FeedForward
from svd_core.networks.kernels import dispatch, fused
from tests.helpers import kernels_child

ROOT = Path(__file__).resolve().parents[2]
ON_GPU = torch.cuda.is_available()
KINDS = {
    "GroupNorm": kernels_child.GROUP_NORMS,
    "add and LayerNorm": kernels_child.ADD_NORMS,
    "GEGLU": kernels_child.GATES,
    "moments": ("one frame", "applied"),
    "fp8": kernels_child.QUANTISED,
    "layer": ("feed-forward",),
}
CASES = [f"{kind}: {name}" for kind, names in KINDS.items() for name in names]
# Largest allowed ratio of a kernel's root-mean-square error to that of the plain path. Sums in another order differ by
# a few last places in float32, and hardly in half precision, where the final rounding dominates. The interpreter
# truncates bfloat16 and fp8, which doubles the error of rounding; cards round.
ALLOWED = {"torch.float32": 2.0, "torch.float16": 1.1, "torch.bfloat16": 1.2 if ON_GPU else 2.4}
LAST_PLACE = 2.0**-23


def child(module: str, folder: Path, **variables: str) -> list[dict]:
    """Return the JSON lines that a process which imports Triton prints."""
    if sys.platform.startswith("linux") and platform.machine() == "x86_64":
        import importlib.util

        assert importlib.util.find_spec("triton") is not None, "the test extra installs Triton on Linux"
    else:
        pytest.skip("Triton does not support this system: the kernels are NOT tested here")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "1", **variables}
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, dict]:
    """Return the errors of the kernels by case."""
    variables = {} if ON_GPU else {"TRITON_INTERPRET": "1"}
    found = child("tests.helpers.kernels_child", tmp_path_factory.mktemp("triton"), **variables)
    return {answer["case"]: answer for answer in found}


@pytest.mark.parametrize("case", CASES)
def test_a_kernel_is_as_accurate_as_the_plain_path(answers, case):
    found = answers[case]
    assert found["ran"]
    allowed = ALLOWED[found["dtype"]]
    if case.startswith("fp8") and not ON_GPU:
        allowed = 4.0
    assert found["mean"] <= allowed * found["plain mean"] + LAST_PLACE * found["scale"]
    assert found["most"] <= 2 * allowed * found["plain most"] + 4 * LAST_PLACE * found["scale"]


def test_every_case_of_the_table_was_run(answers):
    assert list(answers) and set(answers) == set(CASES)


def test_norms_write_the_layout_that_the_next_layer_reads(answers):
    for name in ("channels last", "channels last over frames"):
        assert answers[f"GroupNorm: {name}"]["last"]
    for name in ("tokens", "tokens of channels last", "frame by frame", "two clips"):
        assert answers[f"GroupNorm: {name}"]["contiguous"]
    for name in ("one clip", "frames inside the channels"):
        assert not answers[f"GroupNorm: {name}"]["contiguous"]


def test_sums_are_written_in_place_unless_fresh_memory_is_requested(answers):
    for name, (*_, dtype) in kernels_child.ADD_NORMS.items():
        found = answers[f"add and LayerNorm: {name}"]
        assert found["kept"], name
        assert found["equal_sum"] or dtype == torch.bfloat16, name  # a single sum has only one rounding


def test_fp8_scales_equal_those_of_the_plain_path(answers):
    assert all(answers[f"fp8: {name}"]["scales"] for name in kernels_child.QUANTISED)


def test_every_kernel_compiles_for_cards_that_are_not_present(tmp_path):
    found = child("tests.helpers.kernels_compiled", tmp_path)
    assert len(found) == 27
    assert all(answer["bytes"] > 1000 for answer in found)
    # Half precision read element by element would reach only a fraction of the memory bandwidth.
    narrow = {answer["case"].rpartition(",")[0] for answer in found if not answer["wide reads"]}
    assert {name for name in narrow if "one" not in name} == {"moments, channels last", "combine"}


@pytest.mark.parametrize(
    ("shape", "update"),
    [
        ((2, 3, 5, 4), (2, 3, 5, 4)),
        ((2, 3, 5, 4), (4,)),
        ((2, 3, 5, 4), (3, 1, 4)),
        ((2, 3, 5, 4), (2, 1, 1, 4)),
        ((2, 3, 5, 4), (5, 4)),
        ((1, 3, 5, 4), (1, 1, 1, 4)),
        ((6, 4), (1, 4)),
    ],
)
def test_rows_of_an_update_are_found_by_division(shape, update):
    values = torch.randn(update)
    every, period = fused.repetition(torch.Size(shape), values)
    rows = torch.arange(torch.Size(shape[:-1]).numel())
    expected = values.expand(shape).reshape(-1, shape[-1])
    assert torch.equal(values.reshape(-1, shape[-1])[(rows // every) % period], expected)


@pytest.mark.parametrize("update", [(2, 1, 5, 4), (2, 3, 5, 1), (3, 4), (1, 2, 3, 5, 4)])
def test_other_updates_use_the_plain_path(update):
    assert fused.repetition(torch.Size((2, 3, 5, 4)), torch.randn(update)) is None


def test_kernels_are_off_by_default_and_an_unknown_mode_is_rejected():
    with pytest.raises(ValueError, match="unknown"):
        kernels.use_kernels("fast")
    assert kernels.describe(torch.device("cpu")) == "plain PyTorch (chosen)", "off by default"
    assert kernels.use_kernels("auto") == "plain"
    try:
        assert kernels.describe(torch.device("cpu")) == "plain PyTorch (the device is cpu)"
    finally:
        kernels.use_kernels("plain")


@pytest.fixture
def suitable(monkeypatch):
    """A process with kernels switched on, in which every device supports them."""
    monkeypatch.setattr(dispatch, "_mode", ["auto"])
    monkeypatch.setattr(dispatch, "unsupported_reason", lambda device: None)
    monkeypatch.setattr(dispatch, "_failed", set())


def broken(*given, **more):
    """Fail like a kernel whose compilation fails."""
    raise RuntimeError("ptxas is missing\nand more")


def test_a_failing_kernel_is_logged_once_and_the_plain_path_is_used(suitable, monkeypatch, caplog):
    for module, name in ((fused, "_statistics"), (fused, "_add_norm"), (fused, "_geglu")):
        monkeypatch.setattr(module, name, broken)
    torch.manual_seed(2)
    group, layer, feed_forward = nn.GroupNorm(2, 8), nn.LayerNorm(8), FeedForward(8)
    picture, tokens, update = torch.randn(2, 8, 3, 4), torch.randn(2, 5, 8), torch.randn(2, 5, 8)

    def results() -> list[torch.Tensor]:
        x, normed = layers.add_norm(layer, tokens.clone(), update)
        return [
            layers.norm_silu(group, picture, 2),
            layers.norm_to_tokens(group, picture),
            feed_forward.add_to(x, normed),
        ]

    with torch.no_grad(), caplog.at_level(logging.WARNING, "svd_reel"):
        first, second = results(), results()
        kernels.use_kernels("plain")
        try:
            plain = results()
        finally:
            kernels.use_kernels("auto")
    for one, other, expected in zip(first, second, plain, strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)  # the bias of the gate is added separately
        assert torch.equal(one, other)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and all("ptxas is missing" in line and "and more" not in line for line in said)


def test_out_of_memory_is_raised_and_does_not_disable_a_kernel(suitable):
    def full():
        raise torch.cuda.OutOfMemoryError("full")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        dispatch.try_kernel("GroupNorm", full)
    assert dispatch.try_kernel("GroupNorm", lambda: 1) == 1


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("gfx90a:sramecc+:xnack-", None),
        ("gfx1100", None),
        ("gfx1201", None),
        ("gfx1030", "gfx1030"),
        ("gfx803", "gfx803"),
    ],
)
def test_amd_cards_that_triton_does_not_compile_for_are_left_alone(monkeypatch, architecture, reason):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(gcnArchName=architecture))
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    found = dispatch.unsupported_reason.__wrapped__(torch.device("cuda"))
    assert (found is None) if reason is None else (reason in found)


def test_kernels_skip_gradients_other_dtypes_empty_tensors_and_hooks(suitable):
    norm, x = nn.GroupNorm(2, 8), torch.randn(1, 8, 3, 4)
    assert not dispatch.can_run(x), "gradients are wanted"
    with torch.no_grad():
        assert dispatch.can_run(x)
        assert not dispatch.can_run(x.double())
        assert not dispatch.can_run(x[:0])
        norm.register_forward_hook(lambda *given: None)
        assert kernels.group_norm(norm, x, activate=True) is None
        assert kernels.add_norm(nn.LayerNorm((4, 8)), torch.randn(2, 4, 8), None) is None


@torch.no_grad()
def test_a_registered_reader_lends_the_weights_of_host_layers(monkeypatch):
    class Hosted(nn.Linear):
        pass

    returned = []

    def read(layer, kind, x):
        @contextmanager
        def lend():
            yield 2 * layer.weight, layer.bias
            returned.append(layer)

        return lend() if isinstance(layer, kind) else None

    monkeypatch.setattr("svd_core.networks.kernels.weights._readers", [])
    layer, x = Hosted(4, 3), torch.randn(2, 4)
    with kernels.weights_of(layer, nn.Linear, x) as affine:
        assert affine is None
    kernels.register_weight_reader(read)
    with kernels.weights_of(layer, nn.GroupNorm, x) as affine:
        assert affine is None

    def product(x, weight, bias):
        assert not returned, "the weights are valid until the product is queued"
        return F.linear(x, weight, bias)

    doubled = kernels.multiply(layer, x, product)
    torch.testing.assert_close(doubled, F.linear(x, 2 * layer.weight, layer.bias))
    assert returned == [layer]


@torch.no_grad()
def test_a_layer_that_keeps_its_weights_to_itself_runs_without_the_product_and_says_so_once(monkeypatch, caplog):
    class Packed(nn.Linear):
        pass

    monkeypatch.setattr(dispatch, "_logged", set())
    layer, x = Packed(4, 3), torch.randn(2, 4)
    for _ in range(2):
        assert torch.equal(kernels.multiply(layer, x, lambda *given: 1 / 0), layer(x))
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "Packed" in warning.message and '"exact"' in warning.message
