"""Which attention kernel runs, and attention in slices where a kernel would keep every score."""

import pytest
import torch
import torch.nn.functional as F

from svd_core.model.retry import limit_scores, smaller_chunks
from svd_core.networks import attention
from svd_core.networks.activation_bytes import BYTES_PER_SCORE, SCORE_BYTES
from svd_core.networks.attention import Attention, attend
from svd_core.networks.kernels import attention_backends as backends
from tests.model.test_budgets import tiny_unet

MPS = torch.device("mps")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_forced", [])
    monkeypatch.setattr(backends, "_hosts", [])


def strided(*shape: int) -> list[torch.Tensor]:
    """Queries, keys and values with the channels apart, which torch's fused kernels do not take."""
    random = torch.Generator().manual_seed(5)
    *rows, length, width = shape
    return [torch.randn(*rows, width, length, generator=random).transpose(-2, -1) for _ in range(3)]


@pytest.mark.parametrize(
    ("capability", "hip", "length", "order"),
    [
        ((8, 6), None, 9216, ["flash", "cudnn", "efficient"]),
        ((9, 0), None, 9216, ["cudnn", "flash", "efficient"]),
        ((12, 0), None, 512, ["cudnn", "flash", "efficient"]),
        ((9, 0), None, 25, ["flash", "cudnn", "efficient"]),
        ((9, 4), "6.4", 9216, ["flash", "cudnn", "efficient"]),
    ],
)
def test_the_order_of_kernels_depends_on_card_and_length_alone(monkeypatch, capability, hip, length, order):
    monkeypatch.setattr(torch.version, "hip", hip)
    assert backends.preferred_backends(capability, length) == order


@pytest.mark.parametrize(
    ("supported", "chosen", "asked"),
    [
        ({"flash", "efficient"}, "flash", ["flash"]),
        ({"efficient"}, "efficient", ["flash", "cudnn", "efficient"]),
        (set(), None, ["flash", "cudnn", "efficient"]),
    ],
)
def test_the_first_kernel_that_runs_is_chosen_once_per_shape(monkeypatch, supported, chosen, asked):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    tried = []

    def takes(name, *tensors):
        tried.append(name)
        return name in supported

    q = torch.zeros(1, 2, 4, 8)
    assert [backends.chosen_backend(q, q, q, takes) for _ in range(2)] == [chosen, chosen]
    assert tried == asked
    longer = torch.zeros(1, 2, 5, 8)
    assert backends.chosen_backend(longer, longer, longer, takes) == chosen
    assert tried == 2 * asked


def test_a_shortage_while_a_kernel_is_tried_is_not_taken_for_a_refusal(monkeypatch):
    def run_out(*given):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(F, "scaled_dot_product_attention", run_out)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    q = torch.zeros(1, 2, 4, 8)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        backends.chosen_backend(q, q, q)
    assert backends._chosen == {}


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="unknown"):
        backends.force_backend("fastest")


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    ("queries", "calls"),  # that fit the limit: of all heads of one row, and slices per row
    [(1000, 1), (40, 1), (39, 2), (13, 4), (1, 40)],
)
def test_attention_in_slices_equals_the_whole(monkeypatch, rows, queries, calls):
    """Every query sees all keys in every slice; only the rounding of a product of other height may differ."""
    q, k, v = strided(rows, 2, 40, 16)
    whole, sizes = F.scaled_dot_product_attention(q, k, v), []

    def counted(q, k, v):
        sizes.append(BYTES_PER_SCORE * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])
        return F.scaled_dot_product_attention(q, k, v)

    monkeypatch.setattr(attention, "fused_attention", counted)
    limit = queries * BYTES_PER_SCORE * 2 * 40
    found = attend(q, k, v, limit)
    assert len(sizes) == (1 if queries >= 40 * rows else calls * rows) and max(sizes) <= limit
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_kernel_that_keeps_no_scores_is_not_sliced():
    q, k, v = (part.contiguous() for part in strided(2, 2, 40, 16))
    assert torch.equal(attend(q, k, v, 1), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize(
    ("device", "chosen", "stores"), [("meta", None, False), ("cuda", "flash", False), ("cuda", None, True)]
)
def test_scores_are_kept_where_no_fused_kernel_runs(monkeypatch, device, chosen, stores):
    monkeypatch.setattr(backends, "chosen_backend", lambda q, k, v: chosen)
    q = torch.zeros(1, 1, 2, 8, device="meta")
    if device == "cuda":
        q = type("Fake", (), {"is_meta": False, "device": torch.device("cuda")})()
    with torch.no_grad():
        assert backends.stores_scores(q, q, q) is stores


@torch.no_grad()
def test_after_a_shortage_scores_are_quartered_where_a_device_keeps_them(monkeypatch):
    unet = tiny_unet()
    steps = list(smaller_chunks(unet, MPS))
    assert [step.description.rsplit(" ", 2)[-2] for step in steps] == ["512", "128", "32"]
    steps[1].apply()
    assert {module.score_bytes for module in unet.modules() if isinstance(module, Attention)} == {SCORE_BYTES // 16}
    assert "scores of 32 MiB" in next(smaller_chunks(unet, MPS)).description
    limit_scores(unet, None)
    cuda = torch.device("cuda:0")
    assert all("scores" not in step.description for step in smaller_chunks(unet, cuda))
    backends._chosen["some shape", cuda] = None
    assert all("scores" in step.description for step in smaller_chunks(unet, cuda))


@torch.no_grad()
def test_a_hosts_attention_runs_the_attention_over_pixels_only():
    layer, seen = Attention(32, 16), []

    def hosted(q, k, v, heads):
        seen.append((tuple(q.shape), heads))
        return torch.zeros_like(q)

    x, plain = torch.randn(2, 6, 32), {}
    plain["spatial"], plain["temporal"] = layer.spatial(x), layer.temporal(x[None])
    backends.register_attention(lambda *given: None)  # a host without a choice
    assert torch.equal(layer.spatial(x), plain["spatial"])
    backends.register_attention(hosted)
    assert torch.equal(layer.spatial(x), layer.to_out[0](torch.zeros(2, 6, 32))) and seen == [((2, 6, 32), 2)]
    assert torch.equal(layer.temporal(x[None]), plain["temporal"]) and len(seen) == 1
    with torch.enable_grad():
        assert not torch.equal(layer.spatial(x), layer.to_out[0](torch.zeros(2, 6, 32)))
