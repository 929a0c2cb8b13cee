"""The fp8 and float16-accumulation products of the transformers, and compiled blocks."""

import pytest
import torch
import torch.nn.functional as F

from svd_core.cli.main import main
from svd_core.model.switches import PRODUCTS, compile_blocks, multiply_by
from svd_core.networks import kernels
from svd_core.networks.attention import Attention, FeedForward, use_product
from svd_core.networks.joined_weights import join_groups
from svd_core.networks.kernels import matmul
from svd_core.networks.unet import UNet
from tests.helpers.adapters import ADAPTERS, passes
from tests.helpers.nodes_pack import pack, part
from tests.helpers.tiny_unets import tiny_model
from tests.model.test_budgets import TINY, inputs_of, tiny_unet

CPU = torch.device("cpu")


def in_float32(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, by_rows: bool) -> torch.Tensor:
    """Return the reference for fp8 products: both sides rounded to fp8, multiplied and summed in float32."""

    def rounded(part: torch.Tensor) -> torch.Tensor:
        largest = part.abs().amax(1, keepdim=True) if by_rows else part.abs().max()
        scale = largest.float().clamp_min(1e-30) / 448
        return (part / scale).to(torch.float8_e4m3fn).float() * scale

    return F.linear(rounded(x), rounded(weight), None if bias is None else bias.float())


@torch.no_grad()
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_fp8_product_equals_the_product_of_rounded_numbers(by_rows, bias, dtype):
    torch.manual_seed(4)
    x, weight = torch.randn(3, 7, 64).to(dtype), (0.1 * torch.randn(48, 64)).to(dtype)
    x[0, 0] = 0  # a row of zeros has no scale of its own
    added = torch.randn(48).to(dtype) if bias else None
    found = matmul.fp8_linear(x, weight, added, by_rows=by_rows)
    expected = in_float32(x.reshape(21, 64), weight, added, by_rows).reshape(3, 7, 48)
    assert found.dtype == dtype
    # The result is rounded to its dtype once, and once more after adding the bias.
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps * expected.abs().max())
    exact = F.linear(x.float(), weight.float(), None if added is None else added.float())
    # Three bits of mantissa give 2.6 % root-mean-square error per factor, so less than 5 % for the product.
    assert (found.float() - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_row_scales_keep_the_precision_of_small_rows():
    torch.manual_seed(4)
    x, weight = torch.randn(4, 64), torch.randn(32, 64)
    x[0] *= 1e-6
    exact = F.linear(x, weight)
    by_rows = matmul.fp8_linear(x, weight, by_rows=True)
    by_matrix = matmul.fp8_linear(x, weight, by_rows=False)
    assert (by_rows[0] - exact[0]).norm() < 0.06 * exact[0].norm()
    assert (by_matrix[0] - exact[0]).norm() > 0.5 * exact[0].norm()


@torch.no_grad()
@pytest.mark.parametrize("shape", [(24, 64), (48, 40)])
def test_sides_that_fp8_does_not_support_are_multiplied_exactly(shape):
    x, weight = torch.randn(5, shape[1]), torch.randn(shape)
    assert torch.equal(matmul.fp8_linear(x, weight), F.linear(x, weight))


@pytest.mark.parametrize(
    ("capability", "refused"), [((8, 6), True), ((8, 9), False), ((9, 0), False), ((7, 5), True), ((12, 0), False)]
)
def test_cards_without_fp8_are_rejected_by_compute_capability(monkeypatch, capability, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    reason = matmul.fp8_unsupported_reason(torch.device("cuda"))
    assert (reason is not None) == refused
    if refused:
        assert "{}.{}".format(*capability) in reason and "8.9" in reason


def test_a_cpu_is_rejected_with_the_remedy():
    with pytest.raises(ValueError, match="the device is cpu.*leave them off"):
        kernels.fp8_product(CPU)
    with pytest.raises(ValueError, match="unknown.*exact, fp8"):
        multiply_by(tiny_unet(), "int4", CPU)


def test_the_command_line_rejects_fp8_before_it_loads_a_model(tmp_path, capsys):
    picture = "svd_core/assets/demo.png"
    words = ["animate", picture, "--output", str(tmp_path / "a.gif"), "--device", "cpu", "--fp8-products"]
    assert main(words) == 2
    assert "the device is cpu" in capsys.readouterr().err
    assert not (tmp_path / "a.gif").exists()


def test_the_node_offers_every_product_and_rejects_fp8_without_a_card():
    node = pack().NODE_CLASS_MAPPINGS["SVDReelLoadModel"]
    choices, _ = node.INPUT_TYPES()["optional"]["products"]
    assert choices == list(PRODUCTS)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp8 products need"):
            node().execute("nano (embedded)", "auto", "auto", products="fp8")
    with pytest.raises(ValueError, match="fp8 weights need"):
        node().execute("nano (embedded)", "auto", "fp8")


def test_fp8_weights_are_the_matrices_only():
    nano = part("nodes.load").open_parts("nano (embedded)")
    small, unet = nano.unet, UNet(nano.config.unet, device="meta")
    part("nodes.host.build").fill_in_eight_bits(unet, small, torch.float16)
    for name, weight in unet.named_parameters():
        assert weight.dtype == (torch.float8_e4m3fn if weight.ndim > 1 else torch.float16), name
        exact = small.fetch(name).float()
        # Half a step of a three-bit mantissa, or of the smallest representable numbers.
        assert ((weight.float() - exact).abs() <= exact.abs() / 16 + 2.0**-10).all(), name


@torch.no_grad()
@pytest.mark.parametrize("joined", [True, False])
def test_a_network_uses_the_given_product_until_it_is_reset(joined):
    unet = tiny_unet()
    if joined:
        join_groups(unet)
    inputs = inputs_of(TINY, 3, 8, 8)
    exact, seen = unet(**inputs), []

    def product(x, weight, bias=None):
        seen.append(weight.shape)
        return F.linear(x, weight, bias)

    layers = [m for m in unet.modules() if isinstance(m, (Attention, FeedForward))]
    cross = [m for m in layers if isinstance(m, Attention) and m.to_k.in_features != m.to_q.in_features]
    assert use_product(unet, product) == len(layers) - len(cross)
    torch.testing.assert_close(unet(**inputs), exact, rtol=0, atol=1e-5)  # biases are added in another order
    feed_forwards = sum(isinstance(m, FeedForward) for m in layers)
    attentions = len(layers) - len(cross) - feed_forwards
    assert len(seen) == 2 * feed_forwards + (2 if joined else 4) * attentions
    use_product(unet, None)
    assert torch.equal(unet(**inputs), exact)


@torch.no_grad()
def test_fp8_changes_the_result_slightly_and_training_not_at_all():
    unet = tiny_unet()
    inputs = inputs_of(TINY, 3, 8, 8)
    exact = unet(**inputs)
    with torch.enable_grad():
        trained = unet(**inputs)
    use_product(unet, matmul.fp8_linear)
    error = (unet(**inputs) - exact).norm() / exact.norm()
    assert 1e-5 < error < 0.05
    with torch.enable_grad():
        assert torch.equal(unet(**inputs), trained)


def test_float16_accumulation_is_on_only_during_the_product():
    product = kernels.fp16_sum_product()
    before = torch.backends.cuda.matmul.allow_fp16_accumulation
    x, weight = torch.randn(2, 4), torch.randn(3, 4)
    assert torch.equal(product(x, weight), F.linear(x, weight))
    assert torch.backends.cuda.matmul.allow_fp16_accumulation == before


@torch.no_grad()
def test_every_block_is_compiled_and_each_shape_only_once():
    unet, graphs = tiny_unet(), []
    inputs = inputs_of(TINY, 2, 8, 8)
    exact = unet(**inputs)

    def backend(graph, examples):
        graphs.append(graph)
        return graph.forward

    blocks = compile_blocks(unet, backend=backend)
    torch.testing.assert_close(unet(**inputs), exact, rtol=0, atol=1e-5)
    # Torch compiles at most 8 variants of a function by default; the residual blocks alone have more shapes.
    assert 10 < len(graphs) < blocks
    once = len(graphs)
    unet(**inputs)
    assert len(graphs) == once


@pytest.mark.parametrize("name", ["controlnet", "cameractrl"])
def test_compiled_blocks_keep_the_hooks_of_adapters(name):
    torch.manual_seed(1)
    adapter = ADAPTERS[name](1.0).adapter
    plain, unet = passes(tiny_model().unet, adapter), tiny_model().unet
    compile_blocks(unet, backend="eager")
    assert torch.allclose(passes(unet, adapter), plain, atol=1e-4)
