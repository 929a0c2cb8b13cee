"""Colour profiles: Display P3, Adobe RGB and other greys become sRGB; bad profiles are ignored with a warning."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from svd_core.pictures import from_pil, open_picture
from tests.helpers.colour_profiles import ADOBE_RGB, DISPLAY_P3, SRGB, icc_profile, srgb_of

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {
    "Display P3": (DISPLAY_P3, 2.2),
    "Adobe RGB": (ADOBE_RGB, 2.2),
    "linear sRGB": (SRGB, 1.0),
}


def colours(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_colours_become_those_of_the_formulas_within_one_level(tmp_path: Path, name: str, suffix: str):
    matrix, gamma = PROFILES[name]
    levels = colours()
    path = tmp_path / f"picture.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(levels).save(path, icc_profile=icc_profile(matrix, gamma), **options)
    expected = torch.from_numpy(srgb_of(levels, matrix, gamma)).float()
    found = open_picture(path)[0]
    # littleCMS computes in 16 bits and rounds to 8.
    assert (found - expected).abs().max() * 255 <= 1.0
    assert (expected - torch.from_numpy(levels / 255).float()).abs().max() * 255 > 20, "the profile matters"


def test_transparency_is_kept_beside_converted_colours():
    levels = np.concatenate([colours(), colours()[..., :1]], axis=-1)
    picture = Image.fromarray(levels)
    picture.info["icc_profile"] = icc_profile(DISPLAY_P3, 2.2)
    found = from_pil(picture)[0]
    assert torch.equal(found[..., 3], torch.from_numpy(levels[..., 3].copy()).float() / 255)
    expected = torch.from_numpy(srgb_of(levels[..., :3], DISPLAY_P3, 2.2)).float()
    assert (found[..., :3] - expected).abs().max() * 255 <= 1.0


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("matrix", [None, DISPLAY_P3], ids=["grey profile", "RGB profile"])
def test_grey_is_converted_by_profiles_of_grey_and_of_colour(mode: str, matrix):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(levels)
    if mode == "LA":
        picture.putalpha(Image.new("L", (16, 16), 51))
    picture.info["icc_profile"] = icc_profile(matrix, 1.4)
    found = from_pil(picture)[0]
    expected = torch.from_numpy(srgb_of(levels, None, 1.4)).float()
    for channel in range(3):
        # littleCMS steps from grey to colour through a Lab table, which costs up to 1.6 levels in dark tones.
        assert (found[..., channel] - expected).abs().max() * 255 <= 2.0
    assert found.shape[-1] == (4 if mode == "LA" else 3)
    if mode == "LA":
        assert found[..., 3].unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_profile_that_is_srgb_changes_no_bit(mode: str):
    plain = Image.fromarray(colours()).convert(mode)
    tagged = plain.copy()
    tagged.info["icc_profile"] = SRGB_PROFILE
    assert torch.equal(from_pil(tagged), from_pil(plain))


def test_palettes_are_converted_by_their_profile():
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 20, 200, 60])
    picture.putpixel((1, 0), 1)
    picture.info["icc_profile"] = icc_profile(ADOBE_RGB, 2.2)
    expected = srgb_of(np.array([[255, 0, 0], [20, 200, 60]]), ADOBE_RGB, 2.2)
    assert (from_pil(picture)[0, 0] - torch.from_numpy(expected).float()).abs().max() * 255 <= 1.0


@pytest.mark.parametrize(
    ("mode", "profile", "words"),
    [
        ("RGB", b"no profile", "cannot be used"),
        ("RGB", icc_profile(None, 2.2), "for GRAY, the picture is RGB"),
        ("CMYK", icc_profile(SRGB, 2.2), "for RGB, the picture is CMYK"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said_and_the_colours_stay(mode: str, profile: bytes, words: str, caplog):
    plain = Image.fromarray(colours()).convert(mode)
    tagged = plain.copy()
    tagged.info["icc_profile"] = profile
    with caplog.at_level(logging.WARNING, "svd_reel"):
        assert torch.equal(from_pil(tagged), from_pil(plain))
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_a_photograph_in_display_p3_looks_like_its_srgb_version():
    """Both files were made from one scene; the 8 bits of Display P3 themselves cost up to 3 levels in dark colours."""
    folder = Path(__file__).resolve().parents[1] / "data" / "pictures"
    difference = (open_picture(folder / "display_p3.png") - open_picture(folder / "srgb.png")).abs() * 255
    assert difference.max() <= 3 and (difference > 1).float().mean() < 0.02
    with Image.open(folder / "display_p3.png") as picture:
        raw = torch.from_numpy(np.asarray(picture).copy())[None] / 255
    assert ((raw - open_picture(folder / "srgb.png")).abs() * 255).max() > 20, "without the profile it is paler"


def test_a_profile_is_read_from_a_picture_that_is_not_a_file():
    buffer = io.BytesIO()
    Image.fromarray(colours()).save(buffer, "PNG", icc_profile=icc_profile(DISPLAY_P3, 2.2))
    with Image.open(buffer) as picture:
        found = from_pil(picture)
    expected = torch.from_numpy(srgb_of(colours(), DISPLAY_P3, 2.2)).float()
    assert (found[0] - expected).abs().max() * 255 <= 1.0
