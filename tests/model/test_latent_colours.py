"""Colours of latents: what previews show is what the decoder shows, shrunk to the same size."""

import pytest
import torch
import torch.nn.functional as F

from svd_core import load_model
from svd_core.model.latent_colours import NANO, LatentColours, fit_colours, measure_colours
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pictures import as_batch, fit, open_picture
from tests.helpers.nodes_pack import ROOT

DEMO = fit(as_batch(open_picture(ROOT / "svd_core" / "assets" / "demo.png")), 64, 64, "crop")[0]


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


def psnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Ratio in decibels of the range -1..1 to the error."""
    return float(10 * torch.log10(4 / (found - wanted).square().mean()))


def test_previews_of_nano_are_within_20_decibels_of_its_decoder(nano) -> None:
    latents = nano.encode_latent(DEMO) * LATENT_SCALE
    decoded = F.avg_pool2d(nano.decode(latents, 1).clamp(-1, 1), 8)
    assert psnr(NANO.frames(latents), decoded) > 23
    measured = measure_colours([DEMO], nano.encode_latent, lambda part: nano.decode(part, 1))
    assert psnr(measured.frames(latents), decoded) > 23
    flat = latents[:, :, :1, :1].expand(-1, -1, 8, 8)
    torch.testing.assert_close(LatentColours(NANO.alone(), NANO.bias).frames(flat), NANO.frames(flat))


def test_a_linear_decoder_is_found_exactly() -> None:
    torch.manual_seed(0)
    true = LatentColours(((0.1, -0.2, 0.3), (0.0, 0.1, 0.1), (-0.2, 0.0, 0.2), (0.1, 0.1, -0.1)), (0.05, -0.1, 0.2))
    latents = torch.randn(2, 4, 8, 8) * 0.5
    frames = F.interpolate(true.frames(latents), scale_factor=8)
    found = fit_colours(latents, frames)
    torch.testing.assert_close(torch.tensor(found.weight), torch.tensor(true.weight), atol=2e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(found.bias), torch.tensor(true.bias), atol=2e-3, rtol=0)
