"""Conditioning: official preprocessing, noise augmentation, motion vector, the unconditional condition."""

import json
from pathlib import Path

import pytest
import torch

from svd_core.condition import Condition
from svd_core.model.conditioning import augment, augmentation_noise, clip_pixels, condition_on_image, motion_vector

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text())


@pytest.mark.parametrize("size", VECTORS["clip_preprocess"]["cases"])
def test_clip_pixels_match_the_official_preprocessing(size):
    case = VECTORS["clip_preprocess"]["cases"][size]
    height, width = map(int, size.split("x"))
    channel, row, column = (torch.arange(n) for n in (3, height, width))
    image = ((3 * column + 5 * row[:, None] + 40 * channel[:, None, None]) % 256) / 255
    got = clip_pixels(image[None] * 2 - 1)
    assert got.shape == (1, 3, 224, 224)
    points = torch.stack([got[0][tuple(point)] for point in case["points"]])
    # Float32 sums over up to 7x16 taps of values below 2: a few units of 1e-7, printed with 7 digits.
    torch.testing.assert_close(points, torch.tensor(case["official"]), rtol=0, atol=2e-6)
    assert got.mean().item() == pytest.approx(case["official_mean"], abs=2e-6)
    assert got.std().item() == pytest.approx(case["official_std"], abs=2e-6)


def test_an_image_of_the_right_size_is_only_normalised():
    image = torch.rand(2, 3, 224, 224) * 2 - 1
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = ((image + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(clip_pixels(image), expected)


@pytest.mark.parametrize("shape", [(64, 64), (16, 1024), (225, 100), (1000, 16)])
def test_clip_pixels_take_any_shape_and_size(shape):
    got = clip_pixels(torch.rand(1, 3, *shape) * 2 - 1, size=28)
    assert got.shape == (1, 3, 28, 28) and torch.isfinite(got).all()


@pytest.mark.parametrize("value", [6, 5, 127, 0.02, 1e-05])
def test_motion_vector_matches_the_sinusoid_vectors(value):
    case = next(v for k, v in VECTORS["sinusoidal"].items() if k.endswith("@256") and float(k[:-4]) == value)
    got = motion_vector(value, 0, 0)[0, :256]
    torch.testing.assert_close(got[:4], torch.tensor(case["first4_cos"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(got[128:132], torch.tensor(case["first4_sin"]), rtol=0, atol=1e-5)
    assert got.sum().item() == pytest.approx(case["sum"], rel=1e-5)


def test_motion_vector_order_is_fps_motion_augmentation():
    got = motion_vector(6, 127, 0.02)
    parts = [motion_vector(v, 0, 0)[:, :256] for v in (6, 127, 0.02)]
    assert got.shape == (1, 768) and torch.equal(got, torch.cat(parts, dim=1))


def test_motion_curves_give_one_row_per_frame():
    curve = torch.tensor([10.0, 60.0, 127.0])
    got = motion_vector(6, curve, 0.02)
    assert got.shape == (3, 768)
    for row, bucket in zip(got, curve, strict=True):
        torch.testing.assert_close(row[None], motion_vector(6, bucket.item(), 0.02))


def test_augmentation_adds_level_times_the_first_draw_of_the_seed():
    image = torch.zeros(1, 3, 16, 24)
    torch.manual_seed(3)
    first = torch.randn(1, 3, 16, 24)
    assert torch.equal(augmentation_noise((1, 3, 16, 24), 3), first)
    torch.testing.assert_close(augment(image, 0.02, 3), 0.02 * first)
    assert augment(image, 0.0, 3) is image


def test_unconditional_zeroes_token_and_latent_and_keeps_the_vector():
    condition = Condition(torch.ones(1, 1, 5), torch.ones(1, 4, 2, 3), torch.ones(1, 6))
    other = condition.unconditional()
    assert not other.token.any() and not other.latent.any() and torch.equal(other.vector, condition.vector)
    assert other.token.shape == condition.token.shape and other.latent.shape == condition.latent.shape


class Recorder:
    """A model that keeps what its encoders are shown."""

    def encode_image(self, image):
        self.seen_by_clip = image
        return torch.ones(1, 1, 5)

    def encode_latent(self, image):
        self.seen_by_vae = image
        return torch.ones(1, 4, 2, 3)

    def embed_motion(self, **scalars):
        self.scalars = scalars
        return motion_vector(**scalars)


def test_clip_sees_the_clean_image_and_the_vae_the_noised_one():
    model, image = Recorder(), torch.rand(1, 3, 16, 24) * 2 - 1
    condition = condition_on_image(model, image, fps_id=6, motion_bucket_id=90, augmentation_level=0.1, seed=4)
    assert torch.equal(model.seen_by_clip, image)
    torch.testing.assert_close(model.seen_by_vae, image + 0.1 * augmentation_noise(image.shape, 4))
    assert model.scalars == {"fps_id": 6, "motion_bucket_id": 90, "augmentation_level": 0.1}
    assert condition.frames == 1


def part(frames=1, **changes):
    parts = {"token": torch.ones(frames, 1, 5), "latent": torch.ones(frames, 4, 2, 3), "vector": torch.ones(frames, 6)}
    return Condition(**(parts | changes))


BAD = [
    (lambda: part(token=torch.ones(1, 5)), "(got [1, 5])"),
    (lambda: part(latent=torch.ones(0, 4, 2, 3)), "(got [0, 4, 2, 3])"),
    (lambda: part(token=torch.ones(3, 1, 5), vector=torch.ones(4, 6)), "(got 1, 3, 4 rows)"),
    (lambda: part(frames=3).over_frames(4), "the condition has 3 frames, the clip 4"),
    (lambda: motion_vector(float("nan"), 127, 0.02), "fps_id must be finite"),
    (lambda: motion_vector(torch.ones(2), torch.ones(3), 0.02), "fps_id needs 1 value or 3 (got 2); give"),
    (lambda: augment(torch.zeros(1, 3, 8, 8), -0.1, 0), "(got -0.1); use 0 to 0.1"),
    (lambda: condition_on_image(Recorder(), torch.zeros(2, 3, 8, 8)), "(got shape [2, 3, 8, 8]); pass image[:1]"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[b[1] for b in BAD])
def test_bad_input_says_value_and_remedy(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)
