"""The effect of LoRAs on weights: formulas, sums, strengths, and unchanged original models."""

import pytest
import torch

import svd_core as svd
from svd_core.lora import Lora, save_lora
from svd_core.lora.delta import LoraLayer, merged, problem
from svd_core.lora.names import is_temporal
from svd_core.lora.read import StoredLayer
from svd_core.networks.joined_weights import join_groups, joined_view
from tests.helpers.checkpoint_files import same_weights
from tests.helpers.lora_files import ATTENTION, layer_shapes, random_layers

LINEAR, CONVOLUTION, TEMPORAL = (6, 5), (6, 5, 3, 3), (6, 5, 3, 1, 1)


@pytest.fixture(scope="module")
def model() -> svd.SVDModel:
    return svd.load_model("nano")


def lora_of(layers: dict[str, tuple], **more) -> Lora:
    stored = {
        path.replace(".", "_"): StoredLayer(path, (path + "/down", path + "/up"), LoraLayer(down, up, 1.0, **more))
        for path, (down, up) in layers.items()
    }
    return Lora("test", stored)


@pytest.fixture(scope="module")
def attention(model):
    return random_layers({p: s for p, s in layer_shapes(model.unet).items() if p.endswith(ATTENTION)})


def numbers(*shape) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def output(model: svd.SVDModel) -> torch.Tensor:
    config = model.config.unet
    frames = 3
    vector = model.embed_motion().expand(frames, -1)
    token = numbers(1, 1, config.context_channels).expand(frames, -1, -1)
    return model.unet(numbers(frames, 8, 8, 8), torch.full((frames,), 0.3), token, vector, frames)


@pytest.mark.parametrize("shape", [LINEAR, CONVOLUTION, TEMPORAL])
@pytest.mark.parametrize("flat", [False, True])
def test_low_rank_is_up_after_down_for_every_kind_of_layer(shape, flat):
    down, up, x = numbers(2, *shape[1:]), numbers(6, 2, *[1] * (len(shape) - 2)), numbers(1, 5, *[4] * (len(shape) - 2))
    apply = {2: torch.nn.functional.linear, 4: torch.conv2d, 5: torch.conv3d}[len(shape)]
    expected = apply(apply(x, down), up)
    layer = LoraLayer(down.flatten(1), up.flatten(1), 1.0) if flat else LoraLayer(down, up, 1.0)
    assert problem(layer, shape) is None
    torch.testing.assert_close(apply(x, merged(torch.zeros(shape), [(layer, 1.0)])), expected, rtol=1e-4, atol=1e-5)


def test_a_middle_factor_stands_between_the_two():
    down, mid, up, x = numbers(2, 5, 1, 1), numbers(2, 2, 3, 3), numbers(6, 2, 1, 1), numbers(1, 5, 7, 7)
    layer = LoraLayer(down, up, 0.5, mid=mid)
    assert problem(layer, CONVOLUTION) is None
    expected = 0.5 * torch.conv2d(torch.conv2d(torch.conv2d(x, down), mid), up)
    actual = torch.conv2d(x, merged(torch.zeros(CONVOLUTION), [(layer, 1.0)]))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [LINEAR, CONVOLUTION, TEMPORAL])
@pytest.mark.parametrize("by_input", [False, True])
def test_magnitudes_are_the_lengths_of_the_new_weight(shape, by_input):
    weight, magnitude = numbers(*shape), numbers(5 if by_input else 6).abs() + 0.1
    layer = LoraLayer(numbers(2, *shape[1:]), numbers(6, 2), 0.5, magnitude=magnitude, by_input=by_input)
    new = merged(weight, [(layer, 1.0)])
    rows = new.transpose(0, 1) if by_input else new
    torch.testing.assert_close(rows.flatten(1).norm(dim=1), magnitude, rtol=1e-5, atol=1e-5)
    directions = weight + 0.5 * (layer.up @ layer.down.flatten(1)).reshape(shape)
    directions = directions.transpose(0, 1) if by_input else directions
    cosine = torch.cosine_similarity(rows.flatten(1), directions.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(len(cosine)))
    half = merged(weight, [(layer, 0.5)])
    torch.testing.assert_close(half, (weight + new) / 2)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LoraLayer(numbers(2, 5), numbers(6, 3), 1.0), "do not multiply"),
        (LoraLayer(numbers(2, 7), numbers(6, 2), 1.0), "6x7 numbers for a layer of 6x5"),
        (LoraLayer(numbers(2, 5), numbers(8, 2), 1.0), "8x5"),
        (LoraLayer(numbers(2, 5), numbers(6, 2), 1.0, magnitude=numbers(5)), "5 magnitudes for 6 outputs"),
        (LoraLayer(numbers(2, 5), numbers(6, 2), 1.0, mid=numbers(3, 2, 1, 1)), "mid"),
    ],
)
def test_tensors_that_do_not_fit_a_layer_are_described(layer, words):
    assert words in problem(layer, LINEAR)


def test_the_loaded_model_stays_and_unchanged_weights_are_shared(model, attention):
    before = {key: tensor.clone() for key, tensor in model.unet.state_dict().items()}
    plain = output(model)
    changed = svd.apply_loras(model, [(lora_of(attention), 1.0, 1.0)])
    assert not torch.allclose(output(changed), plain, atol=0.1)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.unet.state_dict().items())
    assert torch.equal(output(model), plain), "taking the LoRA away gives the old clip, bit for bit"
    new, old = dict(changed.unet.named_parameters()), dict(model.unet.named_parameters())
    assert {key for key in old if not torch.equal(new[key], old[key])} == {f"{path}.weight" for path in attention}
    shared = [key for key in old if new[key].data_ptr() == old[key].data_ptr()]
    assert len(shared) == len(old) - len(attention)
    assert not any(new[key] is old[key] for key in old), "moving one network must leave the other in place"


def test_strength_zero_and_no_lora_at_all_are_the_model_itself(model, attention):
    assert svd.apply_loras(model, []) is model
    assert svd.apply_loras(model, [(lora_of(attention), 0.0, 0.0)]) is model


@pytest.mark.parametrize(("spatial", "temporal"), [(1.0, 0.0), (0.0, 1.0), (0.5, -2.0)])
def test_each_strength_rules_its_own_layers(model, attention, spatial, temporal):
    changed = svd.apply_loras(model, [(lora_of(attention), spatial, temporal)])
    for path, (down, up) in attention.items():
        old = model.unet.get_submodule(path).weight
        strength = temporal if is_temporal(path) else spatial
        expected = old + strength * up @ down
        torch.testing.assert_close(changed.unet.get_submodule(path).weight.data, expected, rtol=1e-5, atol=1e-5)


def test_several_add_up_over_the_weights_as_loaded_in_any_order(model, attention):
    shapes = {path: (up.shape[0], down.shape[1]) for path, (down, up) in attention.items()}
    outputs = next(iter(shapes.values()))[0]
    alike = {path: pair for path, pair in attention.items() if shapes[path][0] == outputs}
    one, two = lora_of(attention), lora_of(random_layers(shapes, rank=2, seed=5))
    dora = lora_of(alike, magnitude=torch.full((outputs,), 2.0))
    first = svd.apply_loras(model, [(one, 1.0, 0.5), (two, 0.3, 1.0), (dora, 1.0, 1.0)])
    other = svd.apply_loras(model, [(dora, 1.0, 1.0), (two, 0.3, 1.0), (one, 1.0, 0.5)])
    # Only the order of three float32 additions differs.
    for (name, a), b in zip(first.unet.named_parameters(), other.unet.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)
    without = svd.apply_loras(model, [(one, 1.0, 0.5), (dora, 1.0, 1.0)])
    assert not same_weights(without.unet, first.unet)
    assert same_weights(without.unet, svd.apply_loras(model, [(one, 1.0, 0.5), (dora, 1.0, 1.0)]).unet)


def test_weights_that_lie_side_by_side_do_so_with_a_lora(attention):
    model = svd.load_model("nano")
    plain = output(model)
    join_groups(model.unet)
    changed = svd.apply_loras(model, [(lora_of(attention), 1.0, 1.0)])
    assert all(joined_view(group) is not None for group in changed.unet.joinable())
    separate = svd.apply_loras(svd.load_model("nano"), [(lora_of(attention), 1.0, 1.0)])
    assert same_weights(changed.unet, separate.unet)
    # One product of three instead of three products: rounding.
    torch.testing.assert_close(output(changed), output(separate), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output(model), plain, rtol=1e-4, atol=1e-5)
    assert all(joined_view(group) is not None for group in model.unet.joinable())


def test_half_precision_rounds_once(attention):
    half = svd.load_model("nano", dtype=torch.float16)
    path = next(iter(attention))
    loras = [(lora_of({path: attention[path]}), 1.0, 1.0)] * 3
    actual = svd.apply_loras(half, loras).unet.get_submodule(path).weight
    down, up = attention[path]
    expected = (half.unet.get_submodule(path).weight.float() + up @ down + up @ down + up @ down).half()
    assert actual.dtype == torch.float16 and torch.equal(actual, expected)


@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_small_lora_is_not_swallowed_by_the_steps_of_8_bit_weights(model, attention, stored):
    path, (down, up) = next(iter(attention.items()))
    small = lora_of({path: (down, 0.01 * up)})
    eight = torch.nn.Parameter(model.unet.get_submodule(path).weight.detach().to(stored), requires_grad=False)
    twin = svd.apply_loras(model, [(lora_of({path: (down, up)}), 1.0, 1.0)])  # a copy to put the weight into
    twin.unet.get_submodule(path).weight = eight
    new = svd.apply_loras(twin, [(small, 1.0, 1.0)]).unet.get_submodule(path).weight
    added = new.float() - eight.float()
    # float16 has ten bits behind the point: a thousandth of a weight of 0.5 is left of a product of 0.01.
    assert (added - 0.01 * up @ down).norm() < 0.05 * (0.01 * up @ down).norm()
    assert new.dtype == torch.float16 and twin.unet.get_submodule(path).weight is eight


def test_constants_of_the_image_token_follow_the_lora(model):
    # Cross-attention to one token is computed once for a clip (spec section 3.5); a LoRA must reach it.
    paths = [p for p in layer_shapes(model.unet) if ".attn2.to_v" in p or ".attn2.to_out" in p]
    layers = random_layers({path: layer_shapes(model.unet)[path] for path in paths})
    plain = output(model)
    changed = svd.apply_loras(model, [(lora_of(layers), 1.0, 1.0)])
    assert not torch.allclose(output(changed), plain, atol=1e-2)
    rebuilt = svd.load_model("nano")
    state = {key: tensor.clone() for key, tensor in changed.unet.state_dict().items()}
    rebuilt.unet.load_state_dict(state)
    torch.testing.assert_close(output(rebuilt), output(changed), rtol=1e-5, atol=1e-5)


def test_what_is_saved_is_what_is_loaded(model, attention, tmp_path):
    weights = {path: (down, up, 1.5) for path, (down, up) in attention.items()}
    path = save_lora(tmp_path / "a" / "own.safetensors", weights, {"base_model": "nano", "settings": {"rate": 1e-4}})
    again = svd.apply_loras(model, [(svd.load_lora(path), 1.0, 1.0)])
    direct = svd.apply_loras(model, [(lora_of({p: (d, u) for p, (d, u, _) in weights.items()}), 0.5, 0.5)])
    assert same_weights(again.unet, direct.unet)
