"""Other products of the transformers' matrices, the layout of pictures: what they compute, and where."""

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
from tests.helpers.nodes_pack import pack, part
from tests.model.test_budgets import TINY, inputs_of, tiny_unet

CPU = torch.device("cpu")


def in_float32(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, by_rows: bool) -> torch.Tensor:
    """What the product in 8 bits stands for: numbers rounded to 8 bits, multiplied and summed in float32."""

    def rounded(part: torch.Tensor) -> torch.Tensor:
        largest = part.abs().amax(1, keepdim=True) if by_rows else part.abs().max()
        scale = largest.float().clamp_min(1e-30) / 448
        return (part / scale).to(torch.float8_e4m3fn).float() * scale

    return F.linear(rounded(x), rounded(weight), None if bias is None else bias.float())


@torch.no_grad()
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_product_in_8_bits_is_that_of_the_rounded_numbers(by_rows, bias, dtype):
    torch.manual_seed(4)
    x, weight = torch.randn(3, 7, 64).to(dtype), (0.1 * torch.randn(48, 64)).to(dtype)
    x[0, 0] = 0  # a row of zeros has no largest number
    added = torch.randn(48).to(dtype) if bias else None
    found = matmul.fp8_linear(x, weight, added, by_rows=by_rows)
    expected = in_float32(x.reshape(21, 64), weight, added, by_rows).reshape(3, 7, 48)
    assert found.dtype == dtype
    # The format of the result is rounded to once, and once more for the bias.
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps * expected.abs().max())
    exact = F.linear(x.float(), weight.float(), None if added is None else added.float())
    # Rounding to three bits of mantissa: 2.6 % for each factor, root mean square, so below 5 % for the product.
    assert (found.float() - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_scales_by_rows_keep_small_rows_apart_from_large_ones():
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
def test_sides_that_8_bits_cannot_take_are_multiplied_exactly(shape):
    x, weight = torch.randn(5, shape[1]), torch.randn(shape)
    assert torch.equal(matmul.fp8_linear(x, weight), F.linear(x, weight))


@pytest.mark.parametrize(
    ("capability", "refused"), [((8, 6), True), ((8, 9), False), ((9, 0), False), ((7, 5), True), ((12, 0), False)]
)
def test_cards_without_8_bits_are_refused_by_their_number(monkeypatch, capability, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    reason = matmul.fp8_unsupported_reason(torch.device("cuda"))
    assert (reason is not None) == refused
    if refused:
        assert "{}.{}".format(*capability) in reason and "8.9" in reason


def test_a_cpu_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="the device is cpu.*leave them off"):
        kernels.fp8_product(CPU)
    with pytest.raises(ValueError, match="unknown.*exact, fp8"):
        multiply_by(tiny_unet(), "int4", CPU)


def test_the_command_line_refuses_before_it_loads(tmp_path, capsys):
    picture = "svd_core/assets/demo.png"
    words = ["animate", picture, "--output", str(tmp_path / "a.gif"), "--device", "cpu", "--fp8-products"]
    assert main(words) == 2
    assert "the device is cpu" in capsys.readouterr().err
    assert not (tmp_path / "a.gif").exists()


def test_the_node_offers_every_way_and_refuses_8_bits_without_a_card():
    node = pack().NODE_CLASS_MAPPINGS["SVDReelLoadModel"]
    choices, _ = node.INPUT_TYPES()["optional"]["products"]
    assert choices == list(PRODUCTS)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp8 products need"):
            node().execute("nano (embedded)", "auto", "auto", products="fp8")
    with pytest.raises(ValueError, match="fp8 weights need"):
        node().execute("nano (embedded)", "auto", "fp8")


def test_weights_of_8_bits_are_the_matrices_alone():
    nano = part("nodes.load").open_parts("nano (embedded)")
    small, unet = nano.unet, UNet(nano.config.unet, device="meta")
    part("nodes.host.build").fill_in_eight_bits(unet, small, torch.float16)
    for name, weight in unet.named_parameters():
        assert weight.dtype == (torch.float8_e4m3fn if weight.ndim > 1 else torch.float16), name
        exact = small.fetch(name).float()
        # Half a step of three bits of mantissa, or of the smallest numbers there are.
        assert ((weight.float() - exact).abs() <= exact.abs() / 16 + 2.0**-10).all(), name


@torch.no_grad()
@pytest.mark.parametrize("joined", [True, False])
def test_a_network_multiplies_by_what_it_is_given_and_forgets_it_again(joined):
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
def test_8_bits_change_the_result_by_little_and_training_not_at_all():
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


def test_sums_in_half_precision_are_switched_on_for_the_product_alone():
    product = kernels.fp16_sum_product()
    before = torch.backends.cuda.matmul.allow_fp16_accumulation
    x, weight = torch.randn(2, 4), torch.randn(3, 4)
    assert torch.equal(product(x, weight), F.linear(x, weight))
    assert torch.backends.cuda.matmul.allow_fp16_accumulation == before


@torch.no_grad()
def test_every_shape_of_block_is_compiled_once_and_none_is_left_out():
    unet, graphs = tiny_unet(), []
    inputs = inputs_of(TINY, 2, 8, 8)
    exact = unet(**inputs)

    def backend(graph, examples):
        graphs.append(graph)
        return graph.forward

    blocks = compile_blocks(unet, backend=backend)
    torch.testing.assert_close(unet(**inputs), exact, rtol=0, atol=1e-5)
    # Torch's own limit is 8 forms of a function; the residual blocks alone have more shapes than that.
    assert 10 < len(graphs) < blocks
    once = len(graphs)
    unet(**inputs)
    assert len(graphs) == once
