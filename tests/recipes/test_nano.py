"""The embedded model: its size, its metadata, and more motion at higher buckets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.networks.vae import LATENT_SCALE
from svd_core.pipelines.settings import off_distribution

ASSETS = Path(svd.__file__).parent / "assets"


@pytest.fixture(scope="module")
def nano() -> svd.SVDModel:
    return svd.load_model("nano")


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.open(ASSETS / "demo.png").convert("RGB")


@pytest.fixture(scope="module")
def pixels(photograph) -> torch.Tensor:
    """The photograph at nano's size, [128, 128, 3] in 0..1."""
    return torch.from_numpy(np.array(photograph.resize((128, 128), Image.LANCZOS))) / 255


@pytest.fixture(scope="module")
def clips(nano, photograph) -> dict[int, torch.Tensor]:
    """Clips of the photograph by motion bucket."""
    settings = svd.AnimateSettings(steps=8, seed=5)
    return {bucket: svd.animate(nano, photograph, settings, motion_bucket=bucket) for bucket in (10, 127, 255)}


def test_assets_are_small_enough_to_ship():
    assert (ASSETS / "nano.safetensors").stat().st_size <= 32_000_000
    assert (ASSETS / "demo.png").stat().st_size <= 300_000


def test_metadata_makes_it_nano(nano):
    config = nano.config
    assert (config.variant, config.frames, config.width, config.height) == ("nano", 8, 128, 128)


def test_a_higher_motion_bucket_moves_the_picture_more(nano, clips):
    for frames in clips.values():
        assert frames.shape == (nano.config.frames, nano.config.height, nano.config.width, 3)
        assert frames.isfinite().all()
    changes = [float((frames[-1] - frames[0]).abs().mean()) for frames in clips.values()]
    # The camera travels in proportion to the bucket; a still clip differs by well under one percent.
    assert changes[0] < changes[1] < changes[2], changes
    assert changes[2] > 3 * changes[0], changes


@pytest.mark.parametrize("bucket", [127, 255])
def test_first_frame_is_the_photograph_and_the_colours_stay(clips, pixels, bucket):
    frames = clips[bucket]
    error = (frames[0] - pixels).square().mean()
    # nano reaches 24.3 and 24.2 dB here, its autoencoder 24.9; a wrong or grey frame stays below 12 dB, v1.2 had 23.9.
    assert -10 * torch.log10(error) > 24
    means = frames.mean((1, 2))
    # 0.8 and 1.8 %; a push-in that lets its exposure go gains nearly 4 % at bucket 255.
    assert (means - means[0]).abs().max() < 0.03


def test_frames_decoded_together_are_nearer_than_each_alone(nano, pixels):
    picture = pixels.movedim(2, 0)[None, :, 32:96, 32:96] * 2 - 1
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        latent = nano.encode_latent(picture) * LATENT_SCALE
        noisy = latent + 0.2 * torch.randn(8, *latent.shape[1:], generator=generator)
        together = nano.decode(noisy, plan="exact")
        alone = torch.cat([nano.decode(frame[None], plan="exact") for frame in noisy])
    errors = [(frames - picture).square().mean().item() for frames in (alone, together)]
    # 1.3 % of the error goes; a decoder without a temporal half, or with one that does nothing, keeps every bit of it.
    assert errors[1] < 0.995 * errors[0], errors


@pytest.mark.parametrize(("frames", "warned"), [(8, False), (14, False), (15, True)])
def test_only_more_frames_than_its_training_had_are_warned_of(nano, frames, warned):
    settings = svd.AnimateSettings(frames=frames).resolve(nano.config)
    assert ("frames" in off_distribution(settings, nano.config)) == warned
