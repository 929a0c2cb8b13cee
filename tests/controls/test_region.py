"""Motion numbers by region: two embeddings in one picture, in the condition and in the network."""

import pytest
import torch

from svd_core.condition import Region
from svd_core.controls.windows import slice_inputs
from svd_core.model.conditioning import motion_vector
from svd_core.networks.config import UNetConfig
from svd_core.networks.embedding import RegionalEmbedding, add_embedding
from svd_core.networks.layers import accumulate
from svd_core.networks.unet import UNet
from svd_core.sampling.controls import Inputs
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.guidance import Guidance
from tests.helpers.motion_models import condition

CONFIG = UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0,), head_channels=16)
FRAMES, H, W = 3, 10, 12  # halves to 5 x 6


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    net = UNet(CONFIG).requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.08)
    return net


def given(bucket, rows=FRAMES):
    return motion_vector(6, torch.full((rows,), float(bucket)), 0.02)


def answer(unet, vector, region=None):
    draw = torch.Generator().manual_seed(1)
    x, context = torch.randn(FRAMES, 8, H, W, generator=draw), torch.randn(FRAMES, 1, 1024, generator=draw)
    return unet(x, torch.full((FRAMES,), 0.5), context, vector, FRAMES, region=region)


def test_all_of_one_share_is_the_network_with_that_vector(unet):
    calm, lively = given(10), given(200)
    for share, wanted in ((0.0, lively), (1.0, calm)):
        got = answer(unet, lively, (calm, torch.full((FRAMES, 1, H, W), share)))
        # Rounding of main + (other - main); the two answers differ a hundred times as much.
        torch.testing.assert_close(got, answer(unet, wanted), atol=2e-5, rtol=1e-4)
    assert (answer(unet, calm) - answer(unet, lively)).abs().max() > 2e-3


def test_each_side_of_a_picture_gets_its_own_numbers():
    torch.manual_seed(0)
    layer, main, other = torch.nn.Linear(4, 6), torch.randn(2, 4), torch.randn(2, 4)
    share = torch.zeros(2, 1, 8, 8)
    share[..., 4:] = 1.0
    for size in (8, 4, 2):  # the levels of the network
        got = add_embedding(torch.zeros(2, 6, size, size), layer, RegionalEmbedding(main, other, share))
        for side, vector in ((got[..., : size // 2], main), (got[..., size // 2 :], other)):
            wanted = accumulate(torch.zeros(2, 6, size, size // 2), layer(vector)[:, :, None, None])
            torch.testing.assert_close(side, wanted)


def test_a_condition_without_a_region_reaches_networks_that_know_none():
    def network(x, c_noise, context, vector, num_frames):
        return x[:, :4]

    def regional(x, c_noise, context, vector, num_frames, region):
        assert region[0].shape == (5, 768) and region[1].shape == (5, 1, 18, 32)
        return x[:, :4]

    x, plain = torch.randn(5, 4, 18, 32), condition()
    region = Region(plain.vector, torch.ones(1, 1, 18, 32))
    with_region = plain.with_parts(lambda part: part)
    with_region = type(plain)(with_region.token, with_region.latent, with_region.vector, region)
    assert torch.equal(denoise_with(network, x, 2.0, plain), denoise_with(regional, x, 2.0, with_region))


def test_regions_go_with_their_frames():
    plain = condition()
    share = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 18, 32)
    whole = type(plain)(plain.token, plain.latent, plain.vector, Region(plain.vector, share))
    assert whole.frames == 6 and torch.equal(whole.turned().region.share, share.flip(0))
    assert torch.equal(whole.unconditional().region.share, share)
    part = slice_inputs(Inputs(whole, None, Guidance(torch.tensor(1.0))), torch.tensor([4, 5]), 6).condition
    assert torch.equal(part.region.share, share[4:]) and len(part.region.vector) == 1
    with pytest.raises(ValueError, match="got 1, 3, 6 rows"):
        type(plain)(plain.token, plain.latent, plain.vector.expand(3, -1), Region(plain.vector, share))
