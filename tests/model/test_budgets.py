"""What one pass of the real networks may cost at 25 frames of 1024x576, counted on the meta device, and the shortcuts
that keep it so cheap.
"""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svd_core.memory import PeakMemory
from svd_core.model.streamed_decode import decode_clip
from svd_core.networks.activation_bytes import decoder_activation_bytes, unet_activation_bytes
from svd_core.networks.attention import FeedForward
from svd_core.networks.config import CoderConfig, UNetConfig, VAEConfig
from svd_core.networks.joined_weights import join_groups, joined_view
from svd_core.networks.step_cache import StepCache
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

GIB = 2**30
FRAMES, HEIGHT, WIDTH = 25, 72, 128
NOMINAL_TFLOP = 159.9  # both passes of guidance, the architecture as published
TINY = UNetConfig(model_channels=32, head_channels=16, context_channels=24, channel_mult=(1, 2), attention_levels=(0,))


@pytest.fixture(scope="module")
def full_unet() -> UNet:
    unet = UNet(UNetConfig(), device="meta", dtype=torch.float16)
    join_groups(unet)
    return unet


def inputs_of(config: UNetConfig, frames: int, height: int, width: int, device="cpu", dtype=torch.float32) -> dict:
    """Return the inputs of one pass, with rows expanded from one as the denoiser does."""
    place = {"device": device, "dtype": dtype}
    generator = None if device == "meta" else torch.Generator().manual_seed(3)
    token = torch.randn(1, 1, config.context_channels, generator=generator, **place)
    vector = torch.randn(1, config.vector_channels, generator=generator, device=device)
    return {
        "x": torch.randn(frames, config.in_channels, height, width, generator=generator, **place),
        "c_noise": torch.full((1,), 0.7, device=device).expand(frames),
        "context": token.expand(frames, -1, -1),
        "vector": vector.expand(frames, -1),
        "num_frames": frames,
    }


@torch.no_grad()
def test_a_pass_runs_at_most_1000_kernels_in_at_most_1_6_gib(full_unet):
    inputs = inputs_of(UNetConfig(), FRAMES, HEIGHT, WIDTH, "meta", torch.float16)
    full_unet(**inputs)  # what does not depend on the step is computed at the first one
    with PeakMemory() as pass_:
        full_unet(**inputs)
    assert pass_.operations <= 1000
    assert pass_.peak / GIB <= 1.6
    assert pass_.peak <= unet_activation_bytes(UNetConfig(), FRAMES, HEIGHT, WIDTH) <= 1.1 * pass_.peak


@torch.no_grad()
def test_a_pass_computes_less_than_the_published_architecture(full_unet):
    inputs = inputs_of(UNetConfig(), FRAMES, HEIGHT, WIDTH, "meta", torch.float16)

    def product(out: torch.Size, left: torch.Size, right: torch.Size, *others, **options) -> int:
        return 2 * left[0] * left[1] * right[1]

    # The counter knows only products out of place.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
        full_unet(**inputs)
    assert 0.9 * NOMINAL_TFLOP < 2 * counter.get_total_flops() / 1e12 <= 0.965 * NOMINAL_TFLOP


@torch.no_grad()
@pytest.mark.parametrize(("strategy", "limit"), [("store", 8.0), ("recompute", 5.3)])
def test_exact_decode_keeps_its_budget(strategy, limit):
    vae = VAE(VAEConfig(), device="meta", dtype=torch.float16)
    with PeakMemory() as memory:
        decode_clip(vae, torch.empty(FRAMES, 4, HEIGHT, WIDTH, device="meta", dtype=torch.float16), strategy)
    assert memory.peak / GIB <= limit
    estimate = decoder_activation_bytes(CoderConfig(), FRAMES, HEIGHT, WIDTH, strategy=strategy)
    assert memory.peak <= estimate <= 1.1 * memory.peak


def tiny_unet() -> UNet:
    torch.manual_seed(1)
    return UNet(TINY).requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize(("rows", "channels"), [(20_000, 64), (9_000, 128), (600, 32)])
def test_on_the_cpu_feed_forward_pieces_keep_the_memory_that_the_allocator_keeps(rows, channels):
    layer = FeedForward(channels)
    x, normed = torch.randn(2, rows, channels, generator=torch.Generator().manual_seed(5))
    expected = x + layer.net["2"](layer.net["0"](normed))
    with PeakMemory() as pass_:
        out = layer.add_to(x.clone(), normed)
    # Hidden values and gates of a chunk, in 20 MiB, beside the copy of x.
    assert pass_.peak <= 20 * 2**20 + x.nbytes
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_joined_weights_give_what_single_layers_give():
    unet = tiny_unet()
    inputs = inputs_of(TINY, 3, 8, 8)
    alone = unet(**inputs)
    names = list(unet.state_dict())
    join_groups(unet)
    assert all(joined_view(group) is not None for group in unet.joinable())
    assert list(unet.state_dict()) == names
    # Wider matrix products may sum in another order: a few ulp.
    torch.testing.assert_close(unet(**inputs), alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_rows_that_are_not_known_to_be_equal_give_the_same_result():
    unet = tiny_unet()
    inputs = inputs_of(TINY, 3, 8, 8)
    repeated = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    torch.testing.assert_close(unet(**repeated), unet(**inputs), rtol=0, atol=1e-5)


CHANGES = {
    "to_v of the cross-attention": lambda unet: unet.input_blocks[1][1].transformer_blocks[0].attn2.to_v.weight,
    "to_out of the cross-attention": lambda unet: unet.input_blocks[1][1].time_stack[0].attn2.to_out[0].weight,
    "to_k of the self-attention": lambda unet: unet.input_blocks[1][1].transformer_blocks[0].attn1.to_k.weight,
    "bias behind the self-attention": lambda unet: unet.input_blocks[1][1].time_stack[0].attn1.to_out[0].bias,
    "frame positions": lambda unet: unet.input_blocks[1][1].time_pos_embed[2].weight,
    "mix factor": lambda unet: unet.input_blocks[1][1].time_mixer.mix_factor,
    "last feed-forward bias": lambda unet: unet.input_blocks[1][1].time_stack[0].ff.net["2"].bias,
    "last projection": lambda unet: unet.input_blocks[1][1].proj_out.weight,
    "label embedding": lambda unet: unet.label_emb[0][0].weight,
    "projection of the embedding": lambda unet: unet.input_blocks[1][0].emb_layers["1"].weight,
    "bias of a convolution": lambda unet: unet.input_blocks[1][0].time_stack.in_layers["2"].bias,
}


@torch.no_grad()
@pytest.mark.parametrize("joining", [False, True], ids=["single", "joined"])
@pytest.mark.parametrize("parameter", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_weight_shows_at_the_next_pass(parameter, joining):
    unet, inputs = tiny_unet(), inputs_of(TINY, 2, 8, 8)
    if joining:
        join_groups(unet)
    before = unet(**inputs)
    parameter(unet).mul_(1.5)
    changed = unet(**inputs)
    assert not torch.equal(changed, before)
    fresh = copy.deepcopy(unet)  # a copy starts with nothing kept, and with its weights apart
    torch.testing.assert_close(changed, fresh(**inputs), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["context", "vector", "c_noise"])
def test_a_changed_input_shows_at_the_next_pass(name):
    unet, inputs = tiny_unet(), inputs_of(TINY, 2, 8, 8)
    before = unet(**inputs)
    inputs[name][:1].add_(0.5)  # in place: the same memory
    changed = unet(**inputs)
    assert not torch.equal(changed, before)
    torch.testing.assert_close(changed, tiny_unet()(**inputs), rtol=0, atol=0)


@torch.no_grad()
def test_weights_replaced_by_others_end_the_joining():
    unet, inputs = tiny_unet(), inputs_of(TINY, 2, 8, 8)
    join_groups(unet)
    unet(**inputs)
    attention = unet.input_blocks[1][1].time_stack[0].attn1
    attention.to_k.weight = torch.nn.Parameter(attention.to_k.weight * 2, requires_grad=False)
    assert joined_view(attention.joinable()) is None
    torch.testing.assert_close(unet(**inputs), copy.deepcopy(unet)(**inputs), rtol=0, atol=1e-5)


def test_nothing_is_kept_where_gradients_are_wanted():
    kept, source = StepCache(), torch.ones(2, requires_grad=True)
    first = kept.get([source], "twice", lambda: source * 2)
    assert kept.get([source], "twice", lambda: source * 2) is not first
    assert first.requires_grad


def test_kept_results_do_not_outlive_their_sources():
    kept = StepCache()
    with torch.no_grad():
        for value in (1.0, 2.0):
            # The second source may well get the memory of the first.
            assert kept.get([torch.full((4,), value)], "twice", lambda value=value: torch.tensor(value)) == value
