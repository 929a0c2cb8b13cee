"""Exact streamed decode, plans, memory limits, tiles, and the retry in higher precision."""

import copy
import logging

import pytest
import torch

from svd_core.memory import PeakMemory
from svd_core.model.decoding import decode, frames_to_image, strategy_for
from svd_core.model.model import SVDModel
from svd_core.model.streamed_decode import STRATEGIES, steps_of
from svd_core.model.tiled_decode import decode_tiles
from svd_core.networks.activation_bytes import decoder_activation_bytes
from svd_core.networks.config import CoderConfig, SVDConfig, VAEConfig
from svd_core.networks.vae import LATENT_SCALE, VAE

GIB = 2**30


def random_vae(temporal: bool = True, **sizes) -> VAE:
    torch.manual_seed(1)
    coder = CoderConfig(channels=32, **sizes)
    vae = VAE(VAEConfig(coder, coder, temporal=temporal, post_quant_conv=not temporal))
    for name, parameter in vae.named_parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn_like(parameter) * (1.0 if name.endswith("mix_factor") else 0.1))
    return vae.eval()


@pytest.fixture(scope="module")
def vae() -> VAE:
    return random_vae()


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 14, 25])
def test_streamed_decode_equals_decoding_all_frames_at_once(vae, frames):
    latent = torch.randn(frames, 4, 4, 6)
    # Same operations in another order of summation: float32 rounding through 28 norms, 1e-6 in practice.
    assert relative(decode(vae, latent), vae.decode(latent / LATENT_SCALE, frames)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 4), (3, 7), (8, 5)])
@pytest.mark.parametrize("coder", [{}, {"channel_mult": (1, 2), "num_res_blocks": 1}])
def test_streamed_decode_is_exact_for_other_sizes(coder, size):
    vae = random_vae(**coder)
    latent = torch.randn(4, 4, *size)
    assert relative(decode(vae, latent), vae.decode(latent / LATENT_SCALE, 4)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_chunked_decode_equals_decoding_each_chunk_by_itself(vae, chunk):
    latent = torch.randn(5, 4, 4, 6)
    expected = torch.cat([vae.decode(part / LATENT_SCALE, len(part)) for part in latent.split(chunk)])
    assert relative(decode(vae, latent, chunk), expected) < 1e-5


@torch.no_grad()
def test_chunks_change_a_temporal_clip_but_not_a_frame_wise_one(vae):
    latent = torch.randn(6, 4, 4, 4)
    assert relative(decode(vae, latent, 3), decode(vae, latent)) > 1e-3
    frame_wise = random_vae(temporal=False)
    assert torch.equal(decode(frame_wise, latent, 3), decode(frame_wise, latent))


@pytest.mark.parametrize("limit", [None, 10**12, "recompute", 1])
def test_memory_limit_never_changes_a_bit(vae, limit):
    latent = torch.randn(12, 4, 6, 4)
    if limit == "recompute":
        limit = decoder_activation_bytes(vae.config.decoder, 12, 6, 4, 4, strategy="recompute")
        assert strategy_for(vae, latent, 4, limit) == "recompute"
    assert torch.equal(decode(vae, latent, memory_limit=limit), decode(vae, latent))


def test_memory_limits_lead_to_each_strategy(vae):
    latent = torch.empty(25, 4, 72, 128, device="meta")
    sizes = [decoder_activation_bytes(vae.config.decoder, 25, 72, 128, 4, strategy=s) for s in STRATEGIES]
    assert sizes == sorted(sizes, reverse=True)
    assert [strategy_for(vae, latent, 4, size) for size in sizes] == list(STRATEGIES)


@torch.no_grad()
def test_plain_decode_of_full_size_needs_several_times_the_memory():
    vae = VAE(VAEConfig(), device="meta", dtype=torch.float16)
    with PeakMemory() as plain:
        vae.decode(torch.empty(25, 4, 72, 128, device="meta", dtype=torch.float16), 25)
    assert plain.peak / GIB > 20


@pytest.mark.parametrize("temporal", [True, False])
def test_progress_counts_up_to_its_total(temporal):
    vae, calls = random_vae(temporal), []
    decode(vae, torch.randn(5, 4, 4, 4), 3, on_progress=lambda done, total: calls.append((done, total)))
    total = steps_of(vae, 3) + steps_of(vae, 2)
    assert calls == [(i + 1, total) for i in range(total)]


def test_what_progress_raises_ends_the_decode(vae):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(vae, torch.randn(5, 4, 4, 4), on_progress=stop)


def test_overflow_in_half_precision_is_decoded_again_in_float32(caplog):
    vae = random_vae()
    # The norm that follows undoes the factor in float32; in fp16 the convolution's result is beyond 65504.
    vae.decoder.up[3]["block"][0].conv1.weight.data.mul_(1e4)
    vae.decoder.up[3]["block"][0].norm1.weight.data.mul_(1e2)
    latent = torch.randn(3, 4, 4, 4)
    expected = decode(vae.half().float(), latent)
    with caplog.at_level(logging.WARNING, "svd_reel"):
        frames = decode(vae.half(), latent)
    assert "float32" in caplog.text
    assert next(vae.parameters()).dtype == torch.float16  # the model itself is left as it was
    assert torch.equal(frames, expected)


@pytest.mark.parametrize("size", [(24, 36), (16, 17), (33, 16), (50, 31)])
def test_tiles_join_without_seams_where_the_decoder_is_local(size):
    latent = torch.randn(2, 3, *size)

    def enlarge(piece: torch.Tensor) -> torch.Tensor:
        assert max(piece.shape[-2:]) <= 16
        return enlarge_all(piece)

    # Every tile agrees with the whole where they overlap, so a weighted mean of them is the whole up to rounding.
    torch.testing.assert_close(decode_tiles(enlarge, latent, 16, 4), enlarge_all(latent), rtol=0, atol=1e-6)


def enlarge_all(latent: torch.Tensor) -> torch.Tensor:
    return latent.repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_tiled_decode_gives_a_finite_clip_of_the_right_size(vae):
    frames = decode(vae, torch.randn(2, 4, 20, 24), tile=128)
    assert frames.shape == (2, 3, 160, 192)
    assert torch.isfinite(frames).all()


def test_one_tile_larger_than_the_picture_is_the_picture(vae):
    latent = torch.randn(2, 4, 8, 12)
    # Dividing by a weight of one is exact.
    assert torch.equal(decode(vae, latent, tile=512), decode(vae, latent))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": 0}, "decode plan 0"),
        ({"plan": "fast"}, "decode plan 'fast'"),
        ({"plan": 2.5}, "decode plan 2.5"),
        ({"tile": 100}, "got 100.; use 512"),
        ({"latent": torch.randn(2, 8, 4, 4)}, "[2, 8, 4, 4]"),
        ({"latent": torch.randn(4, 4, 4)}, "[4, 4, 4]"),
        ({"latent": torch.full((2, 4, 4, 4), torch.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused_with_its_value(vae, change, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("]", r"\]")):
        decode(vae, **{"latent": torch.randn(2, 4, 4, 4), **change})


def test_frames_become_clamped_images():
    frames = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(2, 3, 1, 5)
    image = frames_to_image(frames)
    assert image.shape == (2, 1, 5, 3)
    assert image[0, 0, :, 0].tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_model_encodes_its_picture_in_float32(dtype):
    """In float16 the encoder of some pictures overflows; and the latents of node and command line would differ."""
    torch.manual_seed(3)
    coder = CoderConfig(32, (1, 2), 1)
    vae = VAE(VAEConfig(coder, coder)).to(dtype)
    model = SVDModel(None, vae, None, SVDConfig())
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    latent = model.encode_latent(image)
    assert latent.dtype == torch.float32 and torch.equal(latent, copy.deepcopy(vae).float().encode(image))
    assert vae.encoder.conv_in.weight.dtype == dtype
