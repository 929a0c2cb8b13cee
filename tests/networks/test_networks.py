"""The networks reproduce outputs of the official code on closed-form weights (spec section 13, `tiny_models`)."""

import json
import math
from pathlib import Path

import pytest
import torch

from svd_core.model.conditioning import motion_vector
from svd_core.networks.config import CoderConfig, ImageEncoderConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE, Decoder, Encoder

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text())["tiny_models"]
TINY_CODER = CoderConfig(channels=32)

# The vectors have six decimals, and the rule's sin() differs in the last bits between machines. The vectors themselves
# state 2e-4.
TOLERANCE = 2e-4


def closed_form(index: int, shape) -> torch.Tensor:
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    values = torch.sin(steps * 12.9898 + index * 78.233) * 43758.5453
    return ((values - values.floor()) * 2 - 1).reshape(shape)


def fill(module: torch.nn.Module) -> torch.nn.Module:
    state = {}
    for index, (key, tensor) in enumerate(sorted(module.state_dict().items())):
        h = closed_form(index, tensor.shape)
        if tensor.ndim >= 2:
            h = h * math.sqrt(3 / math.prod(tensor.shape[1:]))
        elif not key.endswith("mix_factor"):
            h = 1 + 0.1 * h if key.endswith("weight") else 0.1 * h
        state[key] = h.float()
    module.load_state_dict(state)
    return module.eval()


def check(actual: torch.Tensor, expected: dict) -> None:
    assert list(actual.shape) == expected["shape"]
    for position, value in expected["values"]:
        assert actual[tuple(position)].item() == pytest.approx(value, abs=TOLERANCE), position
    assert actual.mean().item() == pytest.approx(expected["mean"], abs=TOLERANCE)
    assert actual.std().item() == pytest.approx(expected["std"], abs=TOLERANCE)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return fill(UNet(UNetConfig(model_channels=32, head_channels=16, context_channels=24)))


def unet_inputs() -> dict:
    context = closed_form(100001, (2, 1, 24)).float()
    context[0] = 0
    vector = motion_vector(*VECTORS["unet"]["vector_scalars"])
    return {
        "x": closed_form(100000, (6, 8, 8, 16)).float(),
        "c_noise": torch.full((6,), VECTORS["unet"]["c_noise"]),
        "context": context.repeat_interleave(3, 0),
        "vector": vector.expand(6, -1),
        "num_frames": 3,
    }


@torch.no_grad()
def test_unet_gives_the_official_output_for_two_clips(unet):
    assert sum(p.numel() for p in unet.parameters()) == VECTORS["unet"]["n_params"]
    assert len(unet.state_dict()) == VECTORS["unet"]["n_keys"]
    check(unet(**unet_inputs()), VECTORS["unet"]["output"])


@torch.no_grad()
def test_frames_marked_as_images_skip_the_temporal_path(unet):
    marked = unet(**unet_inputs(), image_only_indicator=torch.ones(2, 3))
    check(marked, VECTORS["unet"]["output_image_only_indicator_1"])


@torch.no_grad()
def test_unet_gives_the_same_numbers_with_and_without_gradients(unet):
    with torch.enable_grad():
        tracked = unet(**unet_inputs())
    # Without gradients, biases are added in another order: a few ulp of activations near 10.
    torch.testing.assert_close(unet(**unet_inputs()), tracked.detach(), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("sequences", "numbers"), [(3, 200), (64, 5000)])
def test_slicing_of_attention_and_feed_forward_does_not_change_the_result(unet, monkeypatch, sequences, numbers):
    whole = unet(**unet_inputs())
    monkeypatch.setattr("svd_core.networks.attention.SEQUENCES_PER_CALL", sequences)
    monkeypatch.setattr("svd_core.networks.attention.CHUNK_ELEMENTS", numbers)
    # Matrix products of another height may sum in another order: a few ulp of activations near 10.
    torch.testing.assert_close(unet(**unet_inputs()), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_several_equal_context_tokens_give_what_one_token_gives(unet):
    inputs = unet_inputs()
    one = unet(**inputs)
    inputs["context"] = inputs["context"].expand(-1, 3, -1)
    # Attention over equal tokens returns their value, so the full path must agree with the single-token shortcut
    # (spec section 3.5).
    torch.testing.assert_close(unet(**inputs), one, rtol=0, atol=1e-5)


@torch.no_grad()
def test_two_clips_in_a_batch_are_independent(unet):
    inputs = unet_inputs()
    together = unet(**inputs)
    alone = unet(**{k: v[3:] if isinstance(v, torch.Tensor) else v for k, v in inputs.items()})
    torch.testing.assert_close(alone, together[3:], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (9, 16), (5, 7), (13, 10)])
def test_unet_takes_latents_of_any_size(unet, size):
    inputs = {**unet_inputs(), "x": closed_form(7, (6, 8, *size)).float()}
    assert unet(**inputs).shape == (6, 4, *size)


@torch.no_grad()
@pytest.mark.parametrize(("chunk", "expected"), [(5, "one_chunk_of_5"), (3, "chunks_3_plus_2")])
def test_temporal_decoder_gives_the_official_output(chunk, expected):
    decoder = fill(Decoder(TINY_CODER, temporal=True))
    assert len(decoder.state_dict()) == VECTORS["video_decoder"]["n_keys"]
    latent = closed_form(100002, (5, 4, 4, 6)).float()
    check(torch.cat([decoder(part, len(part)) for part in latent.split(chunk)]), VECTORS["video_decoder"][expected])


@torch.no_grad()
def test_frame_decoder_gives_the_official_output():
    decoder = fill(Decoder(TINY_CODER, temporal=False))
    latent = closed_form(100002, (5, 4, 4, 6)).float()
    check(decoder(latent, 5), VECTORS["image_decoder_without_post_quant"]["output"])


@torch.no_grad()
def test_encoder_gives_the_official_moments():
    vae = VAE(VAEConfig(TINY_CODER, None))
    vae.encoder = fill(Encoder(TINY_CODER))
    fill(vae.quant_conv)
    mean, log_variance = vae.moments(closed_form(100003, (1, 3, 32, 48)).float())
    check(torch.cat([mean, log_variance], 1), VECTORS["encoder_plus_quant_moments"]["output"])


@torch.no_grad()
def test_image_encoder_gives_the_official_embedding():
    config = ImageEncoderConfig(56, 14, 64, 3, 16, 256, 32)
    encoder = fill(ImageEncoder(config))
    assert len(encoder.state_dict()) == VECTORS["clip_vision"]["n_keys"]
    check(encoder(closed_form(100004, (2, 3, 56, 56)).float()), VECTORS["clip_vision"]["output"])
